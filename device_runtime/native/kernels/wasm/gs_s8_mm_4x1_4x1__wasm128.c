/* Sparse int8 in 4x1 blocks times one vector by 16 bits: four single columns (sixteen weights) a step. */
#include "wasm.h"

GS_INLINE uint32_t four(const uint8_t *x, const uint32_t *off) {
  return (uint32_t)x[off[0]] | (uint32_t)x[off[1]] << 8 | (uint32_t)x[off[2]] << 16 | (uint32_t)x[off[3]] << 24;
}

void gs_s8_mm_4x1_4x1__wasm128(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  const uint8_t *x = a->x;
  const gs_rqw q = gs_rqw_make(&a->q);
  for (uint32_t b = a->block0; b < a->block1; b++) {
    const uint32_t last = w->start[b + 1];
    uint32_t e = w->start[b];
    const int8_t *val = (const int8_t *)w->val + (size_t)e * 4;
    v128_t low = wasm_i32x4_const_splat(0), high = low;
    for (; e < last; e += 4, val += 16) {
      const v128_t xv = wasm_i16x8_extend_low_i8x16(wasm_i32x4_splat((int32_t)four(x, w->off + e)));
      low = wasm_i32x4_add(low, wasm_i32x4_dot_i16x8(wasm_i16x8_load8x8(val), xv));
      high = wasm_i32x4_add(high, wasm_i32x4_dot_i16x8(wasm_i16x8_load8x8(val + 8), xv));
    }
    v128_t sum = wasm_i32x4_add(gs_pairsw(low, high), wasm_v128_load((const int32_t *)w->bias + (size_t)b * 4));
    gs_store_bytesw((int8_t *)a->y + (size_t)b * a->y_stride, gs_rqw_acc(sum, wasm_v128_load(a->q.scale + (size_t)b * 4), &q));
  }
}
