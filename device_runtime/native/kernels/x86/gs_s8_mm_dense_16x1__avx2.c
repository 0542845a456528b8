/* Dense int8 times one vector by 16 bits: sixteen rows at a time. */
#include "avx2.h"

GS_TARGET void gs_s8_mm_dense_16x1__avx2(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  const int8_t *x = a->x;
  const uint32_t padded = (w->rows + 3) / 4 * 4;
  for (uint32_t b = a->block0; b < a->block1; b++) {
    const int8_t *val = (const int8_t *)w->val + (size_t)b * w->groups * 64;
    __m256i acc[4];
    GS_UNROLL for (int i = 0; i < 4; i++) acc[i] = _mm256_setzero_si256();
    for (uint32_t g = 0; g < w->groups; g++) {
      __m256i xv = _mm256_cvtepi8_epi16(_mm_set1_epi32(gs_load_i32(x + (size_t)g * 4)));
      GS_UNROLL for (int i = 0; i < 4; i++)
        acc[i] = _mm256_add_epi32(acc[i], _mm256_madd_epi16(gs_widen16(val + (size_t)g * 64 + 16 * i), xv));
    }
    GS_UNROLL for (int i = 0; i < 2; i++) {
      const size_t row = (size_t)b * 16 + 8 * (size_t)i;
      __m256i sum = gs_pairs256(acc[2 * i], acc[2 * i + 1]);
      sum = _mm256_add_epi32(sum, _mm256_loadu_si256((const __m256i *)((const int32_t *)w->bias + row)));
      GS_UNROLL for (int h = 0; h < 2; h++) {
        __m128i half = h ? _mm256_extracti128_si256(sum, 1) : _mm256_castsi256_si128(sum);
        int32_t out = gs_bytes4(half, _mm_loadu_ps(a->q.scale + row + 4 * h), &a->q);
        if (row + 4 * (size_t)h < padded) memcpy((int8_t *)a->y + row + 4 * h, &out, 4);
      }
    }
  }
}
