/* Sparse int8 in 4x4 blocks by 16 bits: four rows share a list of groups. */
#include "avx2_mm.h"

GS_INLINE void tile(const gs_mm_args *a, uint32_t block, uint32_t pixel) {
  const gs_packed *w = a->w;
  const int8_t *x = (const int8_t *)a->x + (size_t)pixel * 4;
  const uint32_t first = w->start[block], last = w->start[block + 1];
  const int16_t *val = (const int16_t *)w->val + (size_t)first * 16;
  __m256i acc[4][2];
  GS_UNROLL for (int r = 0; r < 4; r++) acc[r][0] = acc[r][1] = _mm256_setzero_si256();
  for (uint32_t e = first; e < last; e++) {
    const int8_t *xe = x + w->off[e];
    __m256i x0 = gs_widen16(xe), x1 = gs_widen16(xe + 16);
    gs_rows256(acc, x0, x1, val);
    val += 16;
  }
  gs_store_quad256(a, block, pixel, acc);
}

GS_TARGET void gs_s8_mm_4x4_4x64__avx2(const gs_mm_args *a) {
  for (uint32_t p = 0; p < a->npx; p += 8)
    for (uint32_t b = a->block0; b < a->block1; b++) tile(a, b, p);
}
