/* Matrix products on AVX-512 VNNI: one step and the end of four rows, whatever list their columns come from. nv: vectors of
 * sixteen pixels. */
#ifndef GS_X86_AVX512_MM_H
#define GS_X86_AVX512_MM_H
#include "avx512.h"

/* acc[r] += one group (x + 128) times the four weights of row r. */
GS_INLINE void gs_rows512(__m512i acc[4][4], const __m512i xv[4], const int nv, const int8_t *val) {
  GS_UNROLL for (int r = 0; r < 4; r++) {
    __m512i wr = _mm512_set1_epi32(gs_load_i32(val + 4 * r));
    GS_UNROLL for (int v = 0; v < nv; v++) acc[r][v] = _mm512_dpbusd_epi32(acc[r][v], xv[v], wr);
  }
}

/* Requantisation and store of four rows. */
GS_INLINE void gs_store_quads512(const gs_mm_args *a, uint32_t block, uint32_t pixel, const int nv, __m512i acc[4][4],
                                 const gs_rq512q *q) {
  int8_t *y = (int8_t *)a->y + (size_t)block * a->y_stride + (size_t)pixel * 4;
  __m512 scale[4];
  gs_scales512(a->q.scale + (size_t)block * 4, scale);
  GS_UNROLL for (int v = 0; v < nv; v++)
    _mm512_storeu_si512(y + 64 * v, gs_quad512(acc[0][v], acc[1][v], acc[2][v], acc[3][v], scale, q));
}

/* acc[r] += one column times the weight of row r. */
GS_INLINE void gs_rows_f32_512(__m512 acc[4][5], const __m512 xv[5], const int nv, const float *val) {
  GS_UNROLL for (int r = 0; r < 4; r++) {
    __m512 wr = _mm512_set1_ps(val[r]);
    GS_UNROLL for (int v = 0; v < nv; v++) acc[r][v] = _mm512_fmadd_ps(xv[v], wr, acc[r][v]);
  }
}

/* Clamp and store of those of four rows that exist. */
GS_INLINE void gs_store_rows_f32_512(const gs_mm_args *a, uint32_t block, uint32_t pixel, const int nv, __m512 acc[4][5],
                                     __m512 lo, __m512 hi) {
  const uint32_t rows = a->w->rows - block * 4;
  GS_UNROLL for (uint32_t r = 0; r < 4; r++) {
    if (r >= rows) break;
    char *y = (char *)a->y + (size_t)(block * 4 + r) * a->y_stride + (size_t)pixel * 4;
    GS_UNROLL for (int v = 0; v < nv; v++)
      _mm512_storeu_ps(y + 64 * v, _mm512_min_ps(_mm512_max_ps(acc[r][v], lo), hi));
  }
}

/* Runs tile(a, block, pixel, vectors, ...) over the pixels of a call in passes of gs_pixel_units. */
#define GS_FOR_PASSES_F32_512(tile, ...)                          \
  for (uint32_t left = a->npx / 16, p = 0; left != 0;) {          \
    const uint32_t units = gs_pixel_units(left);                  \
    for (uint32_t b = a->block0; b < a->block1; b++) {            \
      if (units == 5) tile(a, b, p, 5, __VA_ARGS__);              \
      else if (units == 4) tile(a, b, p, 4, __VA_ARGS__);         \
      else if (units == 3) tile(a, b, p, 3, __VA_ARGS__);         \
      else if (units == 2) tile(a, b, p, 2, __VA_ARGS__);         \
      else tile(a, b, p, 1, __VA_ARGS__);                         \
    }                                                             \
    p += units * 16;                                              \
    left -= units;                                                \
  }
#endif
