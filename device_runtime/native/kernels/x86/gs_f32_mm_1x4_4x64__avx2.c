/* Unstructured sparse f32: every row has its own columns; 64 pixels at a time, then 16. */
#include "avx2.h"

GS_INLINE void tile(const gs_mm_args *a, uint32_t row, uint32_t pixel, const int nv) {
  const gs_packed *w = a->w;
  const char *x = (const char *)a->x + (size_t)pixel * 4;
  const __m256 lo = _mm256_set1_ps(a->lo), hi = _mm256_set1_ps(a->hi);
  const uint32_t last = w->start[row + 1];
  __m256 acc[8];
  GS_UNROLL for (int v = 0; v < nv; v++) acc[v] = _mm256_set1_ps(((const float *)w->bias)[row]);
  for (uint32_t e = w->start[row]; e < last; e++) {
    const float *xe = (const float *)(const void *)(x + w->off[e]);
    const __m256 wr = _mm256_set1_ps(((const float *)w->val)[e]);
    GS_UNROLL for (int v = 0; v < nv; v++) acc[v] = _mm256_fmadd_ps(_mm256_loadu_ps(xe + 8 * v), wr, acc[v]);
  }
  float *y = (float *)(void *)((char *)a->y + (size_t)row * a->y_stride) + pixel;
  GS_UNROLL for (int v = 0; v < nv; v++) _mm256_storeu_ps(y + 8 * v, _mm256_min_ps(_mm256_max_ps(acc[v], lo), hi));
}

GS_TARGET void gs_f32_mm_1x4_4x64__avx2(const gs_mm_args *a) {
  const uint32_t end = a->block1 * 4 < a->w->rows ? a->block1 * 4 : a->w->rows;
  uint32_t p = 0;
  for (; p + 64 <= a->npx; p += 64)
    for (uint32_t r = a->block0 * 4; r < end; r++) tile(a, r, p, 8);
  for (; p < a->npx; p += 16)
    for (uint32_t r = a->block0 * 4; r < end; r++) tile(a, r, p, 2);
}
