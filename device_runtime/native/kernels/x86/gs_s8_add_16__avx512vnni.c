/* y = a + b of two int8 tensors with their own scales, sixteen elements at once. */
#include "avx512.h"

GS_TARGET void gs_s8_add_16__avx512vnni(const gs_binary_s8_args *a) {
  const gs_requant rq = {NULL, a->zo, a->lo, a->hi};
  const gs_rq512 q = gs_rq512_make(&rq);
  const __m512 ra = _mm512_set1_ps(a->ra), rb = _mm512_set1_ps(a->rb);
  const __m512i za = _mm512_set1_epi32(a->za), zb = _mm512_set1_epi32(a->zb);
  for (size_t i = 0; i < a->n; i += 16) {
    const __mmask16 keep = gs_first16(a->n - i);
    __m512i va = _mm512_sub_epi32(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(keep, a->a + i)), za);
    __m512i vb = _mm512_sub_epi32(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(keep, a->b + i)), zb);
    __m512 fa = _mm512_mul_ps(_mm512_cvtepi32_ps(va), ra), fb = _mm512_mul_ps(_mm512_cvtepi32_ps(vb), rb);
    _mm512_mask_cvtepi32_storeu_epi8(a->y + i, keep, gs_rq512_round(_mm512_add_ps(fa, fb), &q));
  }
}
