/* Sparse int8 in 1x4 blocks by 16 bits: every row has its own groups, sixteen pixels at a time. */
#include "wasm.h"

GS_INLINE void tile(const gs_mm_args *a, uint32_t block, uint32_t pixel) {
  const gs_packed *w = a->w;
  const int8_t *x = (const int8_t *)a->x + (size_t)pixel * 4;
  const gs_rqw q = gs_rqw_make(&a->q);
  v128_t out[4][4];
  for (uint32_t r = 0; r < 4; r++) {
    const size_t row = (size_t)block * 4 + r;
    const uint32_t last = w->start[row + 1];
    uint32_t e = w->start[row];
    const int16_t *val = (const int16_t *)w->val + (size_t)e * 4;
    v128_t acc[8];
    GS_UNROLL for (int v = 0; v < 8; v++) acc[v] = wasm_i32x4_const_splat(0);
    for (; e < last; e++, val += 4) {
      const int8_t *xe = x + w->off[e];
      const v128_t wv = wasm_v128_load64_splat(val);
      GS_UNROLL for (int v = 0; v < 8; v++)
        acc[v] = wasm_i32x4_add(acc[v], wasm_i32x4_dot_i16x8(wasm_i16x8_load8x8(xe + 8 * v), wv));
    }
    const v128_t bias = wasm_i32x4_splat(((const int32_t *)w->bias)[row]), scale = wasm_f32x4_splat(a->q.scale[row]);
    GS_UNROLL for (int v = 0; v < 4; v++)
      out[r][v] = gs_rqw_acc(wasm_i32x4_add(gs_pairsw(acc[2 * v], acc[2 * v + 1]), bias), scale, &q);
  }
  int8_t *y = (int8_t *)a->y + (size_t)block * a->y_stride + (size_t)pixel * 4;
  GS_UNROLL for (int v = 0; v < 4; v++) wasm_v128_store(y + 16 * v, gs_quadw(out[0][v], out[1][v], out[2][v], out[3][v]));
}

void gs_s8_mm_1x4_4x16__wasm128(const gs_mm_args *a) {
  for (uint32_t p = 0; p < a->npx; p += 16)
    for (uint32_t b = a->block0; b < a->block1; b++) tile(a, b, p);
}
