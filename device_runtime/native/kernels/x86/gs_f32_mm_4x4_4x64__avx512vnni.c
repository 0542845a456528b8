/* Sparse f32 in 4x1 blocks: four rows share a list of columns. */
#include "avx512_mm.h"

GS_INLINE void tile(const gs_mm_args *a, uint32_t block, uint32_t pixel, const int nv, __m512 lo, __m512 hi) {
  const gs_packed *w = a->w;
  const char *x = (const char *)a->x + (size_t)pixel * 4;
  const uint32_t first = w->start[block], last = w->start[block + 1];
  const float *val = (const float *)w->val + (size_t)first * 4;
  const float *bias = (const float *)w->bias + (size_t)block * 4;
  __m512 acc[4][5];
  GS_UNROLL for (int r = 0; r < 4; r++) GS_UNROLL for (int v = 0; v < nv; v++) acc[r][v] = _mm512_set1_ps(bias[r]);
  for (uint32_t e = first; e < last; e++) {
    const char *xe = x + w->off[e];
    __m512 xv[5];
    GS_UNROLL for (int v = 0; v < nv; v++) xv[v] = _mm512_loadu_ps(xe + 64 * v);
    gs_rows_f32_512(acc, xv, nv, val);
    val += 4;
  }
  gs_store_rows_f32_512(a, block, pixel, nv, acc, lo, hi);
}

GS_TARGET void gs_f32_mm_4x4_4x64__avx512vnni(const gs_mm_args *a) {
  const __m512 lo = _mm512_set1_ps(a->lo), hi = _mm512_set1_ps(a->hi);
  GS_FOR_PASSES_F32_512(tile, lo, hi)
}
