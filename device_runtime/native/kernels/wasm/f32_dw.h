/* Depthwise f32 of a padded plane: four output pixels at a time, down the rows. Every input row is read once and added to all
 * outputs that it belongs to, whose sums stay in registers: engines that gather all loads of a step at its start spill little. */
#ifndef GS_WASM_F32_DW_H
#define GS_WASM_F32_DW_H
#include "f32_mm.h"

/* sum += one kernel row of taps times columns of an input row. */
GS_INLINE v128_t gs_row_taps(v128_t sum, const v128_t *columns, const v128_t *w, const int window) {
  GS_UNROLL for (int kx = 0; kx < window; kx++) sum = GS_MADD(columns[kx], w[kx], sum);
  return sum;
}

/* Columns kx, kx + stride, ... of a row, for all kx. */
GS_INLINE void gs_columnsw(v128_t columns[5], const float *x, const int window, const int stride) {
  GS_UNROLL for (int kx = 0; kx < window; kx++)
    columns[kx] = stride == 1 ? wasm_v128_load(x + kx) : wasm_i32x4_shuffle(wasm_v128_load(x + kx), wasm_v128_load(x + kx + 3), 0, 2, 5, 7);
}

/* Four columns of outputs, at x and y. At step oy the last `stride` rows of output row oy arrive; it then leaves, and the sums of
 * the rows below move up. Steps before row 0 fill them. */
GS_INLINE void gs_f32_dw_column(const gs_dw_args *a, const char *x, char *y, const v128_t *w, const int window, const int stride) {
  const int below = (window - 1) / stride; /* output rows that have begun when one ends */
  const v128_t bias = wasm_v128_load32_splat(a->bias), lo = wasm_v128_load32_splat(&a->lo), hi = wasm_v128_load32_splat(&a->hi);
  v128_t sum[4];
  char aside[16];
  GS_UNROLL for (int j = 0; j < below; j++) sum[j] = bias;
  for (int64_t oy = -(int64_t)below; oy < a->oh; oy++) {
    const int64_t iy = oy * stride + window - stride;
    v128_t columns[2][5], out = sum[0];
    GS_UNROLL for (int s = 0; s < stride; s++) {
      const int64_t row = iy + s < 0 ? 0 : iy + s; /* before the plane: goes to a row that does not exist */
      gs_columnsw(columns[s], (const float *)(const void *)(x + row * (int64_t)a->x_row), window, stride);
      out = gs_row_taps(out, columns[s], w + (window - stride + s) * window, window);
    }
    GS_UNROLL for (int j = 0; j < below; j++) {
      v128_t next = j + 1 < below ? sum[j + 1] : bias;
      GS_UNROLL for (int s = 0; s < stride; s++) {
        const int ky = window - stride + s - (j + 1) * stride;
        if (ky >= 0) next = gs_row_taps(next, columns[s], w + ky * window, window);
      }
      sum[j] = next;
    }
    /* One store without a branch around it, into which compilers would move the sums: rows of less than four pixels are narrower
     * than it and take their part afterwards, and steps before row 0 store nothing that counts. */
    char *to = oy >= 0 && a->ow >= 4 ? y + (size_t)oy * a->ow * 4 : aside;
    wasm_v128_store(to, wasm_f32x4_pmin(hi, wasm_f32x4_pmax(lo, out)));
    if (a->ow < 4 && oy >= 0) memcpy(y + (size_t)oy * a->ow * 4, aside, a->ow * 4);
  }
}

/* A function of its own for every shape makes a column; the last pixels of a row may be made twice. */
#define GS_F32_DW(name, window, stride)                                                                                        \
  GS_ALONE static void column(const gs_dw_args *a, const char *x, char *y) {                                                   \
    v128_t w[window * window];                                                                                                 \
    GS_UNROLL for (int t = 0; t < window * window; t++) w[t] = wasm_v128_load32_splat((const float *)a->w + t);                \
    gs_f32_dw_column(a, x, y, w, window, stride);                                                                              \
  }                                                                                                                            \
  void name(const gs_dw_args *a) {                                                                                             \
    for (uint32_t ox = 0; ox < a->ow; ox += 4) {                                                                               \
      const uint32_t at = a->ow >= 4 && ox + 4 > a->ow ? a->ow - 4 : ox;                                                       \
      column(a, (const char *)a->x + (size_t)at * stride * 4, (char *)a->y + (size_t)at * 4);                                  \
    }                                                                                                                          \
  }
#endif
