/* Sparse int8 in 1x4 blocks times one vector by 16 bits: two entries of a row a step. */
#include "wasm.h"

void gs_s8_mm_1x4_4x1__wasm128(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  const int8_t *x = a->x;
  const gs_rqw q = gs_rqw_make(&a->q);
  for (uint32_t b = a->block0; b < a->block1; b++) {
    int32_t sums[4];
    for (uint32_t r = 0; r < 4; r++) {
      const size_t row = (size_t)b * 4 + r;
      const uint32_t last = w->start[row + 1];
      uint32_t e = w->start[row];
      const int8_t *val = (const int8_t *)w->val + (size_t)e * 4;
      v128_t acc = wasm_i32x4_const_splat(0);
      for (; e + 2 <= last; e += 2, val += 8) {
        const v128_t two = wasm_v128_load32_lane(x + w->off[e + 1], wasm_v128_load32_zero(x + w->off[e]), 1);
        acc = wasm_i32x4_add(acc, wasm_i32x4_dot_i16x8(wasm_i16x8_extend_low_i8x16(two), wasm_i16x8_load8x8(val)));
      }
      sums[r] = wasm_i32x4_extract_lane(acc, 0) + wasm_i32x4_extract_lane(acc, 1) + wasm_i32x4_extract_lane(acc, 2) +
                wasm_i32x4_extract_lane(acc, 3);
      if (e < last)
        for (uint32_t l = 0; l < 4; l++) sums[r] += x[w->off[e] + l] * val[l];
    }
    v128_t sum = wasm_i32x4_add(wasm_v128_load(sums), wasm_v128_load((const int32_t *)w->bias + (size_t)b * 4));
    gs_store_bytesw((int8_t *)a->y + (size_t)b * a->y_stride, gs_rqw_acc(sum, wasm_v128_load(a->q.scale + (size_t)b * 4), &q));
  }
}
