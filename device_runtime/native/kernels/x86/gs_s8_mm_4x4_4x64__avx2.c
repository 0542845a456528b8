/* Sparse int8 in 4x4 blocks by 16 bits: four rows share a list of groups. */
#include "avx2.h"

GS_INLINE void tile(const gs_mm_args *a, uint32_t block, uint32_t pixel) {
  const gs_packed *w = a->w;
  const int8_t *x = (const int8_t *)a->x + (size_t)pixel * 4;
  const uint32_t first = w->start[block], last = w->start[block + 1];
  const int16_t *val = (const int16_t *)w->val + (size_t)first * 16;
  const int32_t *bias = (const int32_t *)w->bias + (size_t)block * 4;
  const float *scale = a->q.scale + (size_t)block * 4;
  const gs_rq256 q = gs_rq256_make(&a->q);
  __m256i acc[4][2];
  GS_UNROLL for (int r = 0; r < 4; r++) acc[r][0] = acc[r][1] = _mm256_setzero_si256();
  for (uint32_t e = first; e < last; e++) {
    const int8_t *xe = x + w->off[e];
    __m256i x0 = gs_widen16(xe), x1 = gs_widen16(xe + 16);
    GS_UNROLL for (int r = 0; r < 4; r++) {
      __m256i wr = _mm256_set1_epi64x(gs_load_i64(val + 4 * r));
      acc[r][0] = _mm256_add_epi32(acc[r][0], _mm256_madd_epi16(x0, wr));
      acc[r][1] = _mm256_add_epi32(acc[r][1], _mm256_madd_epi16(x1, wr));
    }
    val += 16;
  }
  __m256i out[4];
  GS_UNROLL for (int r = 0; r < 4; r++) {
    __m256i sum = _mm256_add_epi32(gs_pairs256(acc[r][0], acc[r][1]), _mm256_set1_epi32(bias[r]));
    out[r] = gs_rq256_acc(sum, _mm256_set1_ps(scale[r]), &q);
  }
  int8_t *y = (int8_t *)a->y + (size_t)block * a->y_stride + (size_t)pixel * 4;
  _mm256_storeu_si256((__m256i *)y, gs_quad256(out[0], out[1], out[2], out[3]));
}

GS_TARGET void gs_s8_mm_4x4_4x64__avx2(const gs_mm_args *a) {
  for (uint32_t p = 0; p < a->npx; p += 8)
    for (uint32_t b = a->block0; b < a->block1; b++) tile(a, b, p);
}
