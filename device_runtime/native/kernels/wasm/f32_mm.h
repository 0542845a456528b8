/* f32 matrix products for SIMD128 and relaxed SIMD, which differ in GS_MADD(a, b, c) = a * b + c alone. */
#ifndef GS_WASM_F32_MM_H
#define GS_WASM_F32_MM_H
#include "wasm.h"

#if defined(GS_RELAXED) /* engines that have it keep the order of loads; for older ones LLVM's is better */
#define GS_MADD(a, b, c) wasm_f32x4_relaxed_madd(a, b, c)
#define GS_ORDER(v) GS_HERE(v)
#else
#define GS_ORDER(v)
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

/* Rows [row, end) with their own columns, nv vectors of four pixels. */
GS_INLINE void gs_f32_own_rows(const gs_mm_args *a, uint32_t row, uint32_t end, uint32_t pixel, const int nv) {
  const gs_packed *w = a->w;
  const char *x = (const char *)a->x + (size_t)pixel * 4;
  char *y = (char *)a->y + (size_t)row * a->y_stride + (size_t)pixel * 4;
  const uint32_t *off = w->off + w->start[row];
  const float *val = (const float *)w->val + w->start[row];
  const v128_t lo = wasm_v128_load32_splat(&a->lo), hi = wasm_v128_load32_splat(&a->hi);
  GS_ROLLED for (; row < end; row++, y += a->y_stride) {
    v128_t acc[8];
    GS_UNROLL for (int v = 0; v < nv; v++) acc[v] = wasm_v128_load32_splat((const float *)w->bias + row);
    for (const float *last = (const float *)w->val + w->start[row + 1]; val < last; off++, val++) {
      const char *xe = x + *off;
      const v128_t wv = wasm_v128_load32_splat(val);
      GS_UNROLL for (int v = nv - 1; v >= 0; v--) { /* backwards: engines spill less */
        acc[v] = GS_MADD(wasm_v128_load(xe + 16 * v), wv, acc[v]);
        GS_ORDER(acc[v]);
      }
    }
    GS_UNROLL for (int v = 0; v < nv; v++) wasm_v128_store(y + 16 * v, wasm_f32x4_pmin(hi, wasm_f32x4_pmax(lo, acc[v])));
  }
}

/* All rows that own their columns, 32 pixels at a time, then 16. */
#define GS_F32_ROWS(name)                                                                          \
  GS_ALONE static void rows32(const gs_mm_args *a, uint32_t first, uint32_t end, uint32_t pixel) { \
    gs_f32_own_rows(a, first, end, pixel, 8);                                                      \
  }                                                                                                \
  GS_ALONE static void rows16(const gs_mm_args *a, uint32_t first, uint32_t end, uint32_t pixel) { \
    gs_f32_own_rows(a, first, end, pixel, 4);                                                      \
  }                                                                                                \
  void name(const gs_mm_args *a) {                                                                 \
    const uint32_t first = a->block0 * 4, end = a->block1 * 4 < a->w->rows ? a->block1 * 4 : a->w->rows; \
    uint32_t p = 0;                                                                                \
    for (; p + 32 <= a->npx; p += 32) rows32(a, first, end, p);                                    \
    for (; p < a->npx; p += 16) rows16(a, first, end, p);                                          \
  }
#endif
