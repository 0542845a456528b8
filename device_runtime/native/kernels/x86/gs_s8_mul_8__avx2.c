/* y = a * b of two int8 tensors with their own scales, eight elements at once. */
#include "avx2.h"

typedef struct {
  __m256 ra;
  __m256i za, zb;
  gs_rq256 q;
} constants;

GS_INLINE __m256i eight(__m128i a, __m128i b, const constants *k) {
  __m256i va = _mm256_sub_epi32(_mm256_cvtepi8_epi32(a), k->za), vb = _mm256_sub_epi32(_mm256_cvtepi8_epi32(b), k->zb);
  return gs_rq256_round(_mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_mullo_epi32(va, vb)), k->ra), &k->q);
}

GS_TARGET void gs_s8_mul_8__avx2(const gs_binary_s8_args *a) {
  const gs_requant rq = {NULL, a->zo, a->lo, a->hi};
  const constants k = {_mm256_set1_ps(a->ra), _mm256_set1_epi32(a->za), _mm256_set1_epi32(a->zb),
                       gs_rq256_make(&rq)};
  size_t i = 0;
  for (; i + 8 <= a->n; i += 8) {
    int64_t v = gs_bytes256(eight(_mm_loadl_epi64((const __m128i *)(a->a + i)), _mm_loadl_epi64((const __m128i *)(a->b + i)), &k));
    memcpy(a->y + i, &v, 8);
  }
  if (i < a->n) {
    int64_t va = 0, vb = 0;
    memcpy(&va, a->a + i, a->n - i);
    memcpy(&vb, a->b + i, a->n - i);
    int64_t v = gs_bytes256(eight(_mm_cvtsi64_si128(va), _mm_cvtsi64_si128(vb), &k));
    memcpy(a->y + i, &v, a->n - i);
  }
}
