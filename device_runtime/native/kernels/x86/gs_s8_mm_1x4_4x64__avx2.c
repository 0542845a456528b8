/* Sparse int8 in 1x4 blocks by 16 bits: every row has its own groups; 32 pixels at a time, then 16. */
#include "avx2.h"

GS_INLINE void tile(const gs_mm_args *a, uint32_t block, uint32_t pixel, const int nv) {
  const gs_packed *w = a->w;
  const int8_t *x = (const int8_t *)a->x + (size_t)pixel * 4;
  const gs_rq256 q = gs_rq256_make(&a->q);
  __m256i out[4][4];
  for (uint32_t r = 0; r < 4; r++) {
    const size_t row = (size_t)block * 4 + r;
    const uint32_t last = w->start[row + 1];
    __m256i acc[8];
    GS_UNROLL for (int v = 0; v < nv; v++) acc[v] = _mm256_setzero_si256();
    for (uint32_t e = w->start[row]; e < last; e++) {
      const int8_t *xe = x + w->off[e];
      __m256i wr = _mm256_set1_epi64x(gs_load_i64((const int16_t *)w->val + (size_t)e * 4));
      GS_UNROLL for (int v = 0; v < nv; v++)
        acc[v] = _mm256_add_epi32(acc[v], _mm256_madd_epi16(gs_widen16(xe + 16 * v), wr));
    }
    const __m256 scale = _mm256_set1_ps(a->q.scale[row]);
    const __m256i bias = _mm256_set1_epi32(((const int32_t *)w->bias)[row]);
    GS_UNROLL for (int v = 0; v < nv / 2; v++)
      out[r][v] = gs_rq256_acc(_mm256_add_epi32(gs_pairs256(acc[2 * v], acc[2 * v + 1]), bias), scale, &q);
  }
  int8_t *y = (int8_t *)a->y + (size_t)block * a->y_stride + (size_t)pixel * 4;
  GS_UNROLL for (int v = 0; v < nv / 2; v++)
    _mm256_storeu_si256((__m256i *)(y + 32 * v), gs_quad256(out[0][v], out[1][v], out[2][v], out[3][v]));
}

GS_TARGET void gs_s8_mm_1x4_4x64__avx2(const gs_mm_args *a) {
  uint32_t p = 0;
  for (; p + 32 <= a->npx; p += 32)
    for (uint32_t b = a->block0; b < a->block1; b++) tile(a, b, p, 8);
  if (p < a->npx)
    for (uint32_t b = a->block0; b < a->block1; b++) tile(a, b, p, 4);
}
