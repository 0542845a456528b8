/* y = a +- b of two int8 tensors with their own scales, in fixed point, eight elements at once. */
#include "avx2.h"

typedef struct {
  __m256i ma, mb, bias, zo, lo, hi;
  __m128i shift;
} constants;

GS_INLINE __m256i eight(__m128i a, __m128i b, const constants *k) {
  __m256i va = _mm256_mullo_epi32(_mm256_cvtepi8_epi32(a), k->ma), vb = _mm256_mullo_epi32(_mm256_cvtepi8_epi32(b), k->mb);
  __m256i q = _mm256_sra_epi32(_mm256_add_epi32(_mm256_add_epi32(va, vb), k->bias), k->shift);
  return _mm256_min_epi32(_mm256_max_epi32(_mm256_add_epi32(q, k->zo), k->lo), k->hi);
}

GS_TARGET void gs_s8_add_8__avx2(const gs_binary_s8_args *a) {
  const constants k = {_mm256_set1_epi32(a->ma), _mm256_set1_epi32(a->mb), _mm256_set1_epi32(a->bias), _mm256_set1_epi32(a->zo),
                       _mm256_set1_epi32(a->lo), _mm256_set1_epi32(a->hi), _mm_cvtsi32_si128(a->shift)};
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
