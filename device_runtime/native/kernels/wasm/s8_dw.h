/* Depthwise int8 3x3 by 16 bits: taps meet in pairs in the dot product, two output pixels at a time. */
#ifndef GS_WASM_S8_DW_H
#define GS_WASM_S8_DW_H
#include "wasm.h"

GS_INLINE void gs_s8_dw_3x3w(const gs_dw_args *a, const int stride) {
  const int16_t *w = a->w;
  const gs_rqw q = gs_rqw_make(&a->q);
  const v128_t scale = wasm_v128_load(a->q.scale), bias = wasm_v128_load(a->bias);
  v128_t pair[5];
  GS_UNROLL for (int t = 0; t < 5; t++) {
    const v128_t even = wasm_v128_load64_zero(w + 8 * t);
    const v128_t odd = t < 4 ? wasm_v128_load64_zero(w + 8 * t + 4) : wasm_i32x4_const_splat(0);
    pair[t] = wasm_i16x8_shuffle(even, odd, 0, 8, 1, 9, 2, 10, 3, 11);
  }
  for (uint32_t oy = 0; oy < a->oh; oy++)
    for (uint32_t ox = 0; ox < a->ow; ox += 2) {
      const int8_t *x = (const int8_t *)a->x + (size_t)oy * (size_t)stride * a->x_row + (size_t)ox * 4 * (size_t)stride;
      v128_t tap[10], first = bias, second = bias;
      GS_UNROLL for (int t = 0; t < 9; t++) {
        const int8_t *xt = x + (size_t)(t / 3) * a->x_row + 4 * (t % 3);
        tap[t] = stride == 1 ? wasm_i16x8_load8x8(xt)
                             : wasm_i16x8_extend_low_i8x16(wasm_v128_load32_lane(xt + 8, wasm_v128_load32_zero(xt), 1));
      }
      tap[9] = tap[8];
      GS_UNROLL for (int t = 0; t < 5; t++) {
        const v128_t even = tap[2 * t], odd = tap[2 * t + 1];
        first = wasm_i32x4_add(first, wasm_i32x4_dot_i16x8(wasm_i16x8_shuffle(even, odd, 0, 8, 1, 9, 2, 10, 3, 11), pair[t]));
        second = wasm_i32x4_add(second, wasm_i32x4_dot_i16x8(wasm_i16x8_shuffle(even, odd, 4, 12, 5, 13, 6, 14, 7, 15), pair[t]));
      }
      int8_t *y = (int8_t *)a->y + ((size_t)oy * a->ow + ox) * 4;
      const v128_t words = wasm_i16x8_narrow_i32x4(gs_rqw_acc(first, scale, &q), gs_rqw_acc(second, scale, &q));
      const v128_t bytes = wasm_i8x16_narrow_i16x8(words, words);
      if (ox + 1 < a->ow) wasm_v128_store64_lane(y, bytes, 0);
      else wasm_v128_store32_lane(y, bytes, 0);
    }
}
#endif
