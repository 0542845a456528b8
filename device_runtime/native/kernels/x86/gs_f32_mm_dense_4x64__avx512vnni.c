/* Dense f32: four rows times 64 pixels. */
#include "avx512.h"

GS_INLINE void tile(const gs_mm_args *a, uint32_t block, uint32_t pixel, const int nv, __m512 lo, __m512 hi) {
  const gs_packed *w = a->w;
  const char *x = (const char *)a->x + (size_t)pixel * 4;
  const float *val = (const float *)w->val + (size_t)block * w->groups * 4;
  const float *bias = (const float *)w->bias + (size_t)block * 4;
  __m512 acc[4][4];
  GS_UNROLL for (int r = 0; r < 4; r++) GS_UNROLL for (int v = 0; v < nv; v++) acc[r][v] = _mm512_set1_ps(bias[r]);
  for (uint32_t k = w->groups; k != 0; k--) {
    __m512 xv[4];
    GS_UNROLL for (int v = 0; v < nv; v++) xv[v] = _mm512_loadu_ps(x + 64 * v);
    GS_UNROLL for (int r = 0; r < 4; r++) {
      __m512 wr = _mm512_set1_ps(val[r]);
      GS_UNROLL for (int v = 0; v < nv; v++) acc[r][v] = _mm512_fmadd_ps(xv[v], wr, acc[r][v]);
    }
    x += a->x_stride;
    val += 4;
  }
  const uint32_t rows = w->rows - block * 4;
  GS_UNROLL for (uint32_t r = 0; r < 4; r++) {
    if (r >= rows) break;
    char *y = (char *)a->y + (size_t)(block * 4 + r) * a->y_stride + (size_t)pixel * 4;
    GS_UNROLL for (int v = 0; v < nv; v++)
      _mm512_storeu_ps(y + 64 * v, _mm512_min_ps(_mm512_max_ps(acc[r][v], lo), hi));
  }
}

GS_TARGET void gs_f32_mm_dense_4x64__avx512vnni(const gs_mm_args *a) {
  const __m512 lo = _mm512_set1_ps(a->lo), hi = _mm512_set1_ps(a->hi);
  GS_FOR_TILES_512(tile, lo, hi)
}
