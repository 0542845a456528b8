/* Unstructured sparse f32: every row has its own columns; two entries run side by side to hide the latency of the fma. */
#include "avx512.h"

GS_INLINE void tile(const gs_mm_args *a, uint32_t block, uint32_t pixel, const int nv, __m512 lo, __m512 hi) {
  const gs_packed *w = a->w;
  const char *x = (const char *)a->x + (size_t)pixel * 4;
  const uint32_t rows = w->rows - block * 4 < 4 ? w->rows - block * 4 : 4;
  const float *val = w->val;
  for (uint32_t r = 0; r < rows; r++) {
    const size_t row = (size_t)block * 4 + r;
    const uint32_t last = w->start[row + 1];
    uint32_t e = w->start[row];
    __m512 acc[4], odd[4];
    GS_UNROLL for (int v = 0; v < nv; v++) {
      acc[v] = _mm512_set1_ps(((const float *)w->bias)[row]);
      odd[v] = _mm512_setzero_ps();
    }
    for (; e + 2 <= last; e += 2) {
      const char *x0 = x + w->off[e], *x1 = x + w->off[e + 1];
      __m512 w0 = _mm512_set1_ps(val[e]), w1 = _mm512_set1_ps(val[e + 1]);
      GS_UNROLL for (int v = 0; v < nv; v++) {
        acc[v] = _mm512_fmadd_ps(_mm512_loadu_ps(x0 + 64 * v), w0, acc[v]);
        odd[v] = _mm512_fmadd_ps(_mm512_loadu_ps(x1 + 64 * v), w1, odd[v]);
      }
    }
    if (e < last) {
      __m512 w0 = _mm512_set1_ps(val[e]);
      GS_UNROLL for (int v = 0; v < nv; v++)
        acc[v] = _mm512_fmadd_ps(_mm512_loadu_ps(x + w->off[e] + 64 * v), w0, acc[v]);
    }
    char *y = (char *)a->y + row * a->y_stride + (size_t)pixel * 4;
    GS_UNROLL for (int v = 0; v < nv; v++)
      _mm512_storeu_ps(y + 64 * v, _mm512_min_ps(_mm512_max_ps(_mm512_add_ps(acc[v], odd[v]), lo), hi));
  }
}

GS_TARGET void gs_f32_mm_1x4_4x64__avx512vnni(const gs_mm_args *a) {
  const __m512 lo = _mm512_set1_ps(a->lo), hi = _mm512_set1_ps(a->hi);
  GS_FOR_TILES_512(tile, lo, hi)
}
