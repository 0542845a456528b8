/* Dense f32: four rows times sixteen pixels at a time, 64 pixels and one slice of K after the other, so that the tile of x stays
 * in the first cache; the sums of the slices meet in y. */
#include <math.h>

#include "avx2_mm.h"

typedef struct {
  uint32_t first, n; /* columns */
  float lo, hi;      /* of the last slice; the others clamp nothing */
} slice;

GS_INLINE void tile(const gs_mm_args *a, uint32_t block, uint32_t pixel, const slice *s) {
  const gs_packed *w = a->w;
  const uint32_t rows = w->rows - block * 4;
  const char *x = (const char *)a->x + (size_t)s->first * a->x_stride + (size_t)pixel * 4;
  const float *val = (const float *)w->val + ((size_t)block * w->groups + s->first) * 4;
  const float *bias = (const float *)w->bias + (size_t)block * 4;
  __m256 acc[4][2];
  GS_UNROLL for (uint32_t r = 0; r < 4; r++) {
    acc[r][0] = acc[r][1] = _mm256_set1_ps(bias[r]);
    if (s->first == 0 || r >= rows) continue;
    const float *y = (const float *)(const void *)((const char *)a->y + (size_t)(block * 4 + r) * a->y_stride) + pixel;
    acc[r][0] = _mm256_loadu_ps(y);
    acc[r][1] = _mm256_loadu_ps(y + 8);
  }
  for (uint32_t k = s->n; k != 0; k--) {
    __m256 x0 = _mm256_loadu_ps((const float *)(const void *)x), x1 = _mm256_loadu_ps((const float *)(const void *)(x + 32));
    gs_rows_f32_256(acc, x0, x1, val);
    val += 4;
    x += a->x_stride;
  }
  gs_mm_args clamp = *a;
  clamp.lo = s->lo;
  clamp.hi = s->hi;
  gs_store_rows_f32_256(&clamp, block, pixel, acc);
}

GS_TARGET void gs_f32_mm_dense_4x64__avx2(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  const uint32_t slices = (w->groups + GS_SLICE - 1) / GS_SLICE;
  for (uint32_t p = 0; p < a->npx; p += 64)
    for (uint32_t i = 0; i < slices; i++) {
      slice s = {gs_slice_first(w->groups, slices, i), gs_slice_first(w->groups, slices, i + 1), -INFINITY, INFINITY};
      s.n -= s.first;
      if (i + 1 == slices) {
        s.lo = a->lo;
        s.hi = a->hi;
      }
      for (uint32_t b = a->block0; b < a->block1; b++) {
        /* The next block's weights of this slice lie a whole K further on, where no hardware looks ahead. */
        const float *next = (const float *)w->val + ((size_t)(b + 1) * w->groups + s.first) * 4;
        for (uint32_t k = 0; b + 1 < a->block1 && k < s.n; k += 4) _mm_prefetch((const char *)(next + (size_t)k * 4), _MM_HINT_T0);
        for (uint32_t q = p; q < a->npx && q < p + 64; q += 16) tile(a, b, q, &s);
      }
    }
}
