/* Sparse int8 in 4x1 blocks times one vector, by 16 bits: four single columns make one group for four rows. */
#include "avx2.h"

GS_TARGET void gs_s8_mm_4x1_4x1__avx2(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  const uint8_t *x = a->x;
  for (uint32_t b = a->block0; b < a->block1; b++) {
    const uint32_t last = w->start[b + 1];
    __m256i acc = _mm256_setzero_si256();
    for (uint32_t e = w->start[b]; e < last; e += 4) {
      const uint32_t *off = w->off + e;
      uint32_t v = (uint32_t)x[off[0]] | (uint32_t)x[off[1]] << 8 | (uint32_t)x[off[2]] << 16 | (uint32_t)x[off[3]] << 24;
      __m256i xv = _mm256_cvtepi8_epi16(_mm_set1_epi32((int32_t)v));
      acc = _mm256_add_epi32(acc, _mm256_madd_epi16(gs_widen16((const int8_t *)w->val + (size_t)e * 4), xv));
    }
    __m128i sum = _mm256_castsi256_si128(gs_pairs256(acc, acc));
    sum = _mm_add_epi32(sum, _mm_loadu_si128((const __m128i *)((const int32_t *)w->bias + (size_t)b * 4)));
    int32_t out = gs_bytes4(sum, _mm_loadu_ps(a->q.scale + (size_t)b * 4), &a->q);
    memcpy((int8_t *)a->y + (size_t)b * a->y_stride, &out, 4);
  }
}
