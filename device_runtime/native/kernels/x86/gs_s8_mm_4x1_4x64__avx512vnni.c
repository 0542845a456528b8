/* Sparse int8 in 4x1 blocks: four rows share a list of single columns. Four columns are interleaved on the fly: a masked
 * load from j bytes before the column's address puts its lane at byte j of every pixel. Masked-off bytes are not touched. */
#include "avx512_mm.h"

GS_INLINE void tile(const gs_mm_args *a, uint32_t block, uint32_t pixel, const int nv, const gs_rq512q *q) {
  const gs_packed *w = a->w;
  const uint8_t *x = (const uint8_t *)a->x + (size_t)pixel * 4;
  const uint32_t first = w->start[block], last = w->start[block + 1];
  const int8_t *val = (const int8_t *)w->val + (size_t)first * 4;
  const int32_t *bias = (const int32_t *)w->bias + (size_t)block * 4;
  const __mmask64 lane0 = 0x1111111111111111ull;
  __m512i acc[4][4];
  GS_UNROLL for (int r = 0; r < 4; r++) GS_UNROLL for (int v = 0; v < nv; v++) acc[r][v] = _mm512_set1_epi32(bias[r]);
  for (uint32_t e = first; e < last; e += 4) {
    const uint8_t *x0 = x + w->off[e], *x1 = x + w->off[e + 1] - 1, *x2 = x + w->off[e + 2] - 2, *x3 = x + w->off[e + 3] - 3;
    __m512i xv[4];
    GS_UNROLL for (int v = 0; v < nv; v++) {
      __m512i t = _mm512_maskz_loadu_epi8(lane0, x0 + 64 * v);
      t = _mm512_mask_loadu_epi8(t, lane0 << 1, x1 + 64 * v);
      t = _mm512_mask_loadu_epi8(t, lane0 << 2, x2 + 64 * v);
      xv[v] = _mm512_mask_loadu_epi8(t, lane0 << 3, x3 + 64 * v);
    }
    gs_rows512(acc, xv, nv, val);
    val += 16;
  }
  gs_store_quads512(a, block, pixel, nv, acc, q);
}

GS_TARGET void gs_s8_mm_4x1_4x64__avx512vnni(const gs_mm_args *a) {
  const gs_rq512q q = gs_rq512q_make(&a->q);
  GS_FOR_TILES_512(tile, &q)
}
