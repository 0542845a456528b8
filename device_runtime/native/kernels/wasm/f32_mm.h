/* f32 matrix products for SIMD128 and relaxed SIMD, which differ in GS_MADD(a, b, c) = a * b + c alone. */
#ifndef GS_WASM_F32_MM_H
#define GS_WASM_F32_MM_H
#include "wasm.h"

#if defined(GS_RELAXED)
#define GS_MADD(a, b, c) wasm_f32x4_relaxed_madd(a, b, c)
#else
#define GS_MADD(a, b, c) wasm_f32x4_add(wasm_f32x4_mul(a, b), c)
#endif

GS_INLINE v128_t gs_clampw(const gs_mm_args *a, v128_t v) {
  return wasm_f32x4_pmin(wasm_f32x4_splat(a->hi), wasm_f32x4_pmax(wasm_f32x4_splat(a->lo), v));
}

/* Four rows times eight pixels; their K columns are in order (off NULL) or listed. */
GS_INLINE void gs_f32_four_rows(const gs_mm_args *a, uint32_t block, uint32_t pixel, const uint32_t *off, const float *val,
                                uint32_t n) {
  const gs_packed *w = a->w;
  const char *x = (const char *)a->x + (size_t)pixel * 4;
  const float *bias = (const float *)w->bias + (size_t)block * 4;
  v128_t acc[4][2];
  GS_UNROLL for (int r = 0; r < 4; r++) acc[r][0] = acc[r][1] = wasm_f32x4_splat(bias[r]);
  for (uint32_t k = 0; k < n; k++, val += 4) {
    const char *xe = off ? x + off[k] : x + k * a->x_stride;
    const v128_t x0 = wasm_v128_load(xe), x1 = wasm_v128_load(xe + 16);
    GS_UNROLL for (int r = 0; r < 4; r++) {
      const v128_t wv = wasm_v128_load32_splat(val + r);
      acc[r][0] = GS_MADD(x0, wv, acc[r][0]);
      acc[r][1] = GS_MADD(x1, wv, acc[r][1]);
    }
  }
  const uint32_t left = w->rows - block * 4;
  GS_UNROLL for (uint32_t r = 0; r < 4; r++) {
    char *y = (char *)a->y + (size_t)(block * 4 + r) * a->y_stride + (size_t)pixel * 4;
    if (r < left) {
      wasm_v128_store(y, gs_clampw(a, acc[r][0]));
      wasm_v128_store(y + 16, gs_clampw(a, acc[r][1]));
    }
  }
}

/* One row with its own columns; nv vectors of four pixels. */
GS_INLINE void gs_f32_one_row(const gs_mm_args *a, uint32_t row, uint32_t pixel, const int nv) {
  const gs_packed *w = a->w;
  const char *x = (const char *)a->x + (size_t)pixel * 4;
  const uint32_t last = w->start[row + 1];
  v128_t acc[8];
  GS_UNROLL for (int v = 0; v < nv; v++) acc[v] = wasm_f32x4_splat(((const float *)w->bias)[row]);
  for (uint32_t e = w->start[row]; e < last; e++) {
    const char *xe = x + w->off[e];
    const v128_t wv = wasm_v128_load32_splat((const float *)w->val + e);
    GS_UNROLL for (int v = 0; v < nv; v++) acc[v] = GS_MADD(wasm_v128_load(xe + 16 * v), wv, acc[v]);
  }
  char *y = (char *)a->y + (size_t)row * a->y_stride + (size_t)pixel * 4;
  GS_UNROLL for (int v = 0; v < nv; v++) wasm_v128_store(y + 16 * v, gs_clampw(a, acc[v]));
}
#endif
