/* Unstructured sparse f32, lists in fours: four rows of their own columns run side by side over one slice of K, whose tile of
 * x stays in the first cache; the sums of the slices meet in y. */
#include "avx512.h"

typedef struct {
  __m512 lo, hi;
  int first, last; /* slice: the first one starts from the bias, the last one clamps */
  size_t x0;       /* bytes from x to the first column of the slice */
  int far;         /* weights that the second cache cannot hold: fetched a list ahead (1024x1024 at 50%: 13% faster) */
} ends;

/* Steps of one list on nv vectors of pixels. */
GS_INLINE void four(const gs_mm_args *a, uint32_t list, uint32_t pixel, const int nv, const ends *end) {
  const gs_packed *w = a->w;
  const uint32_t *row = w->order + (size_t)list * 4;
  const uint32_t first = w->start[list], n = w->start[list + 1] - first;
  if (n == 0 && !end->first && !end->last) return;
  const size_t x_stride = a->x_stride;
  const char *x = (const char *)a->x + end->x0 + (size_t)pixel * 4;
  char *y = (char *)a->y + (size_t)pixel * 4;
  __m512 acc[4][8];
  GS_UNROLL for (int r = 0; r < 4; r++) {
    if (end->first || row[r] >= w->rows) {
      GS_UNROLL for (int v = 0; v < nv; v++) acc[r][v] = _mm512_set1_ps(((const float *)w->bias)[row[r]]);
    } else {
      GS_UNROLL for (int v = 0; v < nv; v++) acc[r][v] = _mm512_loadu_ps(y + (size_t)row[r] * a->y_stride + 64 * v);
    }
  }
  const uint8_t *off = (const uint8_t *)w->off + (size_t)first * 4, *stop = off + (size_t)n * 4;
  const float *val = (const float *)w->val + (size_t)first * 4;
  for (uint32_t e = 0; end->far && e < n; e += 4) {
    _mm_prefetch((const char *)(val + ((size_t)n + e) * 4), _MM_HINT_T0);
  }
  for (; off != stop; off += 4, val += 4) {
    /* One load for four columns and one for four weights: the processor loads twice a cycle, and x takes all it can get. */
    const uint32_t columns = (uint32_t)gs_load_i32(off);
    __m512 all = _mm512_broadcast_f32x4(_mm_loadu_ps(val));
    __asm__("" : "+v"(all)); /* else the compiler makes four loads of it again */
    const __m512 wr[4] = {_mm512_permute_ps(all, 0x00), _mm512_permute_ps(all, 0x55), _mm512_permute_ps(all, 0xaa),
                          _mm512_permute_ps(all, 0xff)};
    GS_UNROLL for (int r = 0; r < 4; r++) {
      const char *xr = x + (columns >> 8 * r & 255) * x_stride;
      GS_UNROLL for (int v = 0; v < nv; v++) acc[r][v] = _mm512_fmadd_ps(_mm512_loadu_ps(xr + 64 * v), wr[r], acc[r][v]);
    }
  }
  GS_UNROLL for (int r = 0; r < 4; r++) {
    if (row[r] >= w->rows) break;
    char *to = y + (size_t)row[r] * a->y_stride;
    GS_UNROLL for (int v = 0; v < nv; v++) {
      if (end->last) acc[r][v] = _mm512_min_ps(_mm512_max_ps(acc[r][v], end->lo), end->hi);
      _mm512_storeu_ps(to + 64 * v, acc[r][v]);
    }
  }
}

GS_INLINE void slice(const gs_mm_args *a, uint32_t index, uint32_t pixel, const int nv, const ends *end) {
  const gs_packed *w = a->w;
  for (uint32_t b = a->block0; b < a->block1; b++) {
    const uint32_t rows = w->rows - b * 64 < 64 ? w->rows - b * 64 : 64;
    const uint32_t list = (index * w->row_blocks + b) * 16;
    for (uint32_t i = 0; i * 4 < rows; i++) four(a, list + i, pixel, nv, end);
  }
}

/* Slices outside, pixels inside: the weights of a slice come from the second cache for all but the first pixels. */
GS_TARGET void gs_f32_mm_1x4_64x64__avx512vnni(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  ends end = {_mm512_set1_ps(a->lo), _mm512_set1_ps(a->hi), 0, 0, 0, w->entries * 5 > 1u << 20};
  for (uint32_t s = 0; s < w->slices; s++) {
    end.first = s == 0;
    end.last = s + 1 == w->slices;
    end.x0 = gs_slice_first(w->groups, w->slices, s) * a->x_stride;
    for (uint32_t left = a->npx / 16, p = 0; left != 0;) {
      const uint32_t units = gs_pixel_units(left);
      if (units == 5) slice(a, s, p, 5, &end);
      else if (units == 4) slice(a, s, p, 4, &end);
      else if (units == 3) slice(a, s, p, 3, &end);
      else if (units == 2) slice(a, s, p, 2, &end);
      else slice(a, s, p, 1, &end);
      p += units * 16;
      left -= units;
    }
  }
}
