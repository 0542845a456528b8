/* y = a +- b of two int8 tensors with their own scales, in fixed point, sixteen elements at once. */
#include "avx512.h"

GS_TARGET void gs_s8_add_16__avx512vnni(const gs_binary_s8_args *a) {
  const __m512i ma = _mm512_set1_epi32(a->ma), mb = _mm512_set1_epi32(a->mb), bias = _mm512_set1_epi32(a->bias);
  const __m512i zo = _mm512_set1_epi32(a->zo), lo = _mm512_set1_epi32(a->lo), hi = _mm512_set1_epi32(a->hi);
  const __m128i shift = _mm_cvtsi32_si128(a->shift);
  for (size_t i = 0; i < a->n; i += 16) {
    const __mmask16 keep = gs_first16(a->n - i);
    __m512i va = _mm512_mullo_epi32(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(keep, a->a + i)), ma);
    __m512i vb = _mm512_mullo_epi32(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(keep, a->b + i)), mb);
    __m512i q = _mm512_sra_epi32(_mm512_add_epi32(_mm512_add_epi32(va, vb), bias), shift);
    q = _mm512_min_epi32(_mm512_max_epi32(_mm512_add_epi32(q, zo), lo), hi);
    _mm512_mask_cvtepi32_storeu_epi8(a->y + i, keep, q);
  }
}
