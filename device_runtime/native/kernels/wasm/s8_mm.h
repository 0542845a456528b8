/* int8 matrix products for SIMD128: one step and the end of four rows, whatever list their columns come from. */
#ifndef GS_WASM_S8_MM_H
#define GS_WASM_S8_MM_H
#include "wasm.h"

/* acc[r] += one group of four pixels times four int16 weights of row r. */
GS_INLINE void gs_rowsw(v128_t acc[4][2], v128_t px, const int16_t *val) {
  const v128_t x0 = wasm_i16x8_extend_low_i8x16(px), x1 = wasm_i16x8_extend_high_i8x16(px);
  GS_UNROLL for (int r = 0; r < 4; r++) {
    const v128_t wv = wasm_v128_load64_splat(val + 4 * r);
    acc[r][0] = wasm_i32x4_add(acc[r][0], wasm_i32x4_dot_i16x8(x0, wv));
    acc[r][1] = wasm_i32x4_add(acc[r][1], wasm_i32x4_dot_i16x8(x1, wv));
  }
}

/* Bias, requantisation and store of four pixels of four rows. */
GS_INLINE void gs_store_quadw(const gs_mm_args *a, uint32_t block, uint32_t pixel, v128_t acc[4][2]) {
  const gs_rqw q = gs_rqw_make(&a->q);
  const int32_t *bias = (const int32_t *)a->w->bias + (size_t)block * 4;
  const float *scale = a->q.scale + (size_t)block * 4;
  v128_t out[4];
  GS_UNROLL for (int r = 0; r < 4; r++)
    out[r] = gs_rqw_acc(wasm_i32x4_add(gs_pairsw(acc[r][0], acc[r][1]), wasm_i32x4_splat(bias[r])), wasm_f32x4_splat(scale[r]), &q);
  wasm_v128_store((int8_t *)a->y + (size_t)block * a->y_stride + (size_t)pixel * 4, gs_quadw(out[0], out[1], out[2], out[3]));
}
#endif
