/* Sparse int8 in 4x4 blocks: four rows share a list of groups, so that one load of 16 pixels feeds four vpdpbusd. */
#include "avx512_mm.h"

GS_INLINE void tile(const gs_mm_args *a, uint32_t block, uint32_t pixel, const int nv, const gs_rq512q *q) {
  const gs_packed *w = a->w;
  const uint8_t *x = (const uint8_t *)a->x + (size_t)pixel * 4;
  const uint32_t first = w->start[block], last = w->start[block + 1];
  const int8_t *val = (const int8_t *)w->val + (size_t)first * 16;
  const int32_t *bias = (const int32_t *)w->bias + (size_t)block * 4;
  __m512i acc[4][4];
  GS_UNROLL for (int r = 0; r < 4; r++) GS_UNROLL for (int v = 0; v < nv; v++) acc[r][v] = _mm512_set1_epi32(bias[r]);
  for (uint32_t e = first; e < last; e++) {
    const uint8_t *xe = x + w->off[e];
    __m512i xv[4];
    GS_UNROLL for (int v = 0; v < nv; v++) xv[v] = _mm512_loadu_si512(xe + 64 * v);
    gs_rows512(acc, xv, nv, val);
    val += 16;
  }
  gs_store_quads512(a, block, pixel, nv, acc, q);
}

GS_TARGET void gs_s8_mm_4x4_4x64__avx512vnni(const gs_mm_args *a) {
  const gs_rq512q q = gs_rq512q_make(&a->q);
  GS_FOR_TILES_512(tile, &q)
}
