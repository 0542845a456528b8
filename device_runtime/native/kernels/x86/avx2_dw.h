/* Depthwise int8 3x3 on AVX2 by 16 bits: taps meet in pairs in vpmaddwd, four pixels of four lanes at a time. */
#ifndef GS_X86_AVX2_DW_H
#define GS_X86_AVX2_DW_H
#include "avx2.h"

/* Pixels 0 to 3 (stride 1), or 0, 2, 4 and 6 (stride 2), widened. */
GS_INLINE __m256i gs_dw_pixels256(const int8_t *x, const int stride) {
  if (stride == 1) return gs_widen16(x);
  __m128 low = _mm_loadu_ps((const float *)(const void *)x), high = _mm_loadu_ps((const float *)(const void *)(x + 16));
  return _mm256_cvtepi8_epi16(_mm_castps_si128(_mm_shuffle_ps(low, high, 0x88)));
}

GS_INLINE void gs_s8_dw_3x3_256(const gs_dw_args *a, const int stride) {
  const int16_t *w = a->w;
  const gs_requant *q = &a->q;
  const gs_rq256 rq = gs_rq256_make(q);
  const __m256 scale = _mm256_broadcast_ps((const __m128 *)(const void *)q->scale);
  const __m256i bias = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)a->bias));
  __m256i pair[5];
  GS_UNROLL for (int t = 0; t < 5; t++) {
    __m128i even = _mm_loadl_epi64((const __m128i *)(w + 8 * t));
    __m128i odd = t < 4 ? _mm_loadl_epi64((const __m128i *)(w + 8 * t + 4)) : _mm_setzero_si128();
    pair[t] = _mm256_broadcastsi128_si256(_mm_unpacklo_epi16(even, odd));
  }
  for (uint32_t oy = 0; oy < a->oh; oy++)
    for (uint32_t ox = 0; ox < a->ow; ox += 4) {
      const int8_t *x = (const int8_t *)a->x + (size_t)oy * (size_t)stride * a->x_row + (size_t)ox * 4 * (size_t)stride;
      __m256i tap[10], even = bias, odd = bias; /* pixels 0 and 2, pixels 1 and 3 */
      GS_UNROLL for (int t = 0; t < 9; t++) tap[t] = gs_dw_pixels256(x + (size_t)(t / 3) * a->x_row + 4 * (t % 3), stride);
      tap[9] = tap[8];
      GS_UNROLL for (int t = 0; t < 5; t++) {
        even = _mm256_add_epi32(even, _mm256_madd_epi16(_mm256_unpacklo_epi16(tap[2 * t], tap[2 * t + 1]), pair[t]));
        odd = _mm256_add_epi32(odd, _mm256_madd_epi16(_mm256_unpackhi_epi16(tap[2 * t], tap[2 * t + 1]), pair[t]));
      }
      __m256i words = _mm256_packs_epi32(gs_rq256_acc(even, scale, &rq), gs_rq256_acc(odd, scale, &rq));
      __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
      _mm_maskstore_epi32((int *)a->y + (size_t)oy * a->ow + ox, gs_first4(a->ow - ox), bytes);
    }
}
#endif
