/* int8 matrix products for SIMD128 on tiles of int16 (GS_WIDE_X): one step and the end of four rows times eight pixels,
 * whatever list their columns come from. */
#ifndef GS_WASM_S8_MM_H
#define GS_WASM_S8_MM_H
#include "wasm.h"

/* acc[r] = the bias of row r, for eight pixels. */
GS_INLINE void gs_bias_rowsw(v128_t acc[4][2], const gs_packed *w, uint32_t block) {
  GS_UNROLL for (int r = 0; r < 4; r++) acc[r][0] = acc[r][1] = wasm_v128_load32_splat((const int32_t *)w->bias + (size_t)block * 4 + r);
}

/* acc[r] += one group of eight pixels times four int16 weights of row r. */
GS_INLINE void gs_rowsw(v128_t acc[4][2], const int8_t *x01, const int8_t *x23, const int16_t *val) {
  GS_UNROLL for (int h = 0; h < 2; h++) {
    const v128_t x0 = wasm_v128_load(h ? x23 : x01), x1 = wasm_v128_load((h ? x23 : x01) + 16);
    GS_UNROLL for (int r = 0; r < 4; r++) {
      const v128_t wv = wasm_v128_load32_splat(val + 4 * r + 2 * h);
      acc[r][0] = wasm_i32x4_add(acc[r][0], wasm_i32x4_dot_i16x8(x0, wv));
      acc[r][1] = wasm_i32x4_add(acc[r][1], wasm_i32x4_dot_i16x8(x1, wv));
    }
  }
}
#endif
