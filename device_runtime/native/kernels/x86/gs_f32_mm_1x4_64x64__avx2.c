/* Unstructured sparse f32, lists in fours: row after row runs over one slice of K, whose tile of x stays in the first
 * cache; the sums of the slices meet in y. Sixteen registers hold one row of 64 pixels, not four. */
#include "avx2.h"

typedef struct {
  __m256 lo, hi;
  int first, last; /* slice: the first one starts from the bias, the last one clamps */
  size_t x0;       /* bytes from x to the first column of the slice */
} ends;

/* Steps of one row of a list on nv vectors of pixels. */
GS_INLINE void one(const gs_mm_args *a, uint32_t list, uint32_t i, uint32_t pixel, const int nv, const ends *end) {
  const gs_packed *w = a->w;
  const uint32_t row = w->order[(size_t)list * 4 + i];
  const uint32_t first = w->start[list], n = w->start[list + 1] - first;
  if ((n == 0 && !end->first && !end->last) || row >= w->rows) return;
  const size_t x_stride = a->x_stride;
  const char *x = (const char *)a->x + end->x0 + (size_t)pixel * 4;
  float *y = (float *)(void *)((char *)a->y + (size_t)row * a->y_stride) + pixel;
  __m256 acc[10];
  GS_UNROLL for (int v = 0; v < nv; v++)
    acc[v] = end->first ? _mm256_set1_ps(((const float *)w->bias)[row]) : _mm256_loadu_ps(y + 8 * v);
  const uint8_t *off = (const uint8_t *)w->off + (size_t)first * 4 + i, *stop = off + (size_t)n * 4;
  const float *val = (const float *)w->val + (size_t)first * 4 + i;
  for (; off != stop; off += 4, val += 4) {
    const float *xe = (const float *)(const void *)(x + *off * x_stride);
    const __m256 wr = _mm256_set1_ps(*val);
    GS_UNROLL for (int v = 0; v < nv; v++) acc[v] = _mm256_fmadd_ps(_mm256_loadu_ps(xe + 8 * v), wr, acc[v]);
  }
  GS_UNROLL for (int v = 0; v < nv; v++) {
    if (end->last) acc[v] = _mm256_min_ps(_mm256_max_ps(acc[v], end->lo), end->hi);
    _mm256_storeu_ps(y + 8 * v, acc[v]);
  }
}

GS_INLINE void tile(const gs_mm_args *a, uint32_t pixel, const int nv) {
  const gs_packed *w = a->w;
  ends end = {_mm256_set1_ps(a->lo), _mm256_set1_ps(a->hi), 0, 0, 0};
  for (uint32_t s = 0; s < w->slices; s++) {
    end.first = s == 0;
    end.last = s + 1 == w->slices;
    end.x0 = gs_slice_first(w->groups, w->slices, s) * a->x_stride;
    for (uint32_t b = a->block0; b < a->block1; b++) {
      const uint32_t rows = w->rows - b * 64 < 64 ? w->rows - b * 64 : 64;
      const uint32_t list = (s * w->row_blocks + b) * 16;
      for (uint32_t i = 0; i < rows; i++) one(a, list + i / 4, i % 4, pixel, nv, &end);
    }
  }
}

GS_TARGET void gs_f32_mm_1x4_64x64__avx2(const gs_mm_args *a) {
  uint32_t left = a->npx / 16, p = 0;
  while (left) {
    const uint32_t v = gs_pixel_units(left);
    if (v == 5) tile(a, p, 10);
    else if (v == 4) tile(a, p, 8);
    else if (v == 3) tile(a, p, 6);
    else if (v == 2) tile(a, p, 4);
    else tile(a, p, 2);
    p += v * 16;
    left -= v;
  }
}
