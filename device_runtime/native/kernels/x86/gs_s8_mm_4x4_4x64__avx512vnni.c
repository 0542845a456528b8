/* Sparse int8 in 4x4 blocks: four rows share a list of groups, so that one load of 16 pixels feeds four vpdpbusd. */
#include "avx512.h"

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
    GS_UNROLL for (int r = 0; r < 4; r++) {
      __m512i wr = _mm512_set1_epi32(gs_load_i32(val + 4 * r));
      GS_UNROLL for (int v = 0; v < nv; v++) acc[r][v] = _mm512_dpbusd_epi32(acc[r][v], xv[v], wr);
    }
    val += 16;
  }
  int8_t *y = (int8_t *)a->y + (size_t)block * a->y_stride + (size_t)pixel * 4;
  __m512 scale[4];
  gs_scales512(a->q.scale + (size_t)block * 4, scale);
  GS_UNROLL for (int v = 0; v < nv; v++)
    _mm512_storeu_si512(y + 64 * v, gs_quad512(acc[0][v], acc[1][v], acc[2][v], acc[3][v], scale, q));
}

GS_TARGET void gs_s8_mm_4x4_4x64__avx512vnni(const gs_mm_args *a) {
  const gs_rq512q q = gs_rq512q_make(&a->q);
  GS_FOR_TILES_512(tile, &q)
}
