/* Dense f32: four rows times 64 pixels, one slice of K after the other, so that the tile of x stays in the first cache; the sums
 * of the slices meet in y. */
#include <math.h>

#include "avx512_mm.h"

typedef struct {
  __m512 lo, hi;
  uint32_t first, n, end; /* columns of this slice, and where K ends */
} slice;

GS_INLINE void tile(const gs_mm_args *a, uint32_t block, uint32_t pixel, const int nv, const slice *s) {
  const gs_packed *w = a->w;
  const uint32_t rows = w->rows - block * 4;
  const char *x = (const char *)a->x + (size_t)s->first * a->x_stride + (size_t)pixel * 4;
  const float *val = (const float *)w->val + ((size_t)block * w->groups + s->first) * 4;
  const float *bias = (const float *)w->bias + (size_t)block * 4;
  __m512 acc[4][5];
  GS_UNROLL for (uint32_t r = 0; r < 4; r++) {
    if (s->first == 0 || r >= rows) {
      GS_UNROLL for (int v = 0; v < nv; v++) acc[r][v] = _mm512_set1_ps(bias[r]);
    } else {
      const char *y = (const char *)a->y + (size_t)(block * 4 + r) * a->y_stride + (size_t)pixel * 4;
      GS_UNROLL for (int v = 0; v < nv; v++) acc[r][v] = _mm512_loadu_ps(y + 64 * v);
    }
  }
  /* The next block's weights of this slice lie a whole K further on, where no hardware looks ahead. */
  if (block + 1 < a->block1)
    for (uint32_t k = 0; k < s->n; k += 4) _mm_prefetch((const char *)(val + ((size_t)w->groups + k) * 4), _MM_HINT_T0);
  for (uint32_t k = s->n; k != 0; k--) {
    __m512 xv[5];
    GS_UNROLL for (int v = 0; v < nv; v++) xv[v] = _mm512_loadu_ps(x + 64 * v);
    gs_rows_f32_512(acc, xv, nv, val);
    x += a->x_stride;
    val += 4;
  }
  const int last = s->first + s->n == s->end;
  const __m512 lo = last ? s->lo : _mm512_set1_ps(-INFINITY), hi = last ? s->hi : _mm512_set1_ps(INFINITY);
  gs_store_rows_f32_512(a, block, pixel, nv, acc, lo, hi);
}

GS_TARGET void gs_f32_mm_dense_4x64__avx512vnni(const gs_mm_args *a) {
  const uint32_t k = a->w->groups, slices = (k + GS_SLICE - 1) / GS_SLICE;
  slice s = {_mm512_set1_ps(a->lo), _mm512_set1_ps(a->hi), 0, 0, k};
  for (uint32_t left = a->npx / 16, p = 0; left != 0;) {
    const uint32_t units = gs_pixel_units(left);
    for (uint32_t i = 0; i < slices; i++) {
      s.first = gs_slice_first(k, slices, i);
      s.n = gs_slice_first(k, slices, i + 1) - s.first;
      for (uint32_t b = a->block0; b < a->block1; b++) {
        if (units == 5) tile(a, b, p, 5, &s);
        else if (units == 4) tile(a, b, p, 4, &s);
        else if (units == 3) tile(a, b, p, 3, &s);
        else if (units == 2) tile(a, b, p, 2, &s);
        else tile(a, b, p, 1, &s);
      }
    }
    p += units * 16;
    left -= units;
  }
}
