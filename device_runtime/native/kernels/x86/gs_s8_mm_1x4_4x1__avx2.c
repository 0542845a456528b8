/* Sparse int8 in 1x4 blocks times one vector, by 16 bits: four entries of a row a step. */
#include "avx2.h"

GS_TARGET void gs_s8_mm_1x4_4x1__avx2(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  const int8_t *x = a->x;
  for (uint32_t b = a->block0; b < a->block1; b++) {
    int32_t sum[4];
    for (uint32_t r = 0; r < 4; r++) {
      const size_t row = (size_t)b * 4 + r;
      const uint32_t last = w->start[row + 1];
      uint32_t e = w->start[row];
      const int8_t *val = w->val;
      __m256i acc = _mm256_setzero_si256();
      for (; e + 4 <= last; e += 4) {
        const uint32_t *off = w->off + e;
        __m128i xv = _mm_setr_epi32(gs_load_i32(x + off[0]), gs_load_i32(x + off[1]), gs_load_i32(x + off[2]),
                                    gs_load_i32(x + off[3]));
        acc = _mm256_add_epi32(acc, _mm256_madd_epi16(gs_widen16(val + (size_t)e * 4), _mm256_cvtepi8_epi16(xv)));
      }
      for (; e < last; e++) {
        __m128i xv = _mm_cvtsi32_si128(gs_load_i32(x + w->off[e])), wv = _mm_cvtsi32_si128(gs_load_i32(val + (size_t)e * 4));
        acc = _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_cvtepi8_epi16(wv), _mm256_cvtepi8_epi16(xv)));
      }
      __m128i half = _mm_add_epi32(_mm256_castsi256_si128(acc), _mm256_extracti128_si256(acc, 1));
      half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
      sum[r] = _mm_cvtsi128_si32(_mm_add_epi32(half, _mm_shuffle_epi32(half, 0xb1)));
    }
    __m128i all = _mm_add_epi32(_mm_loadu_si128((const __m128i *)sum),
                                _mm_loadu_si128((const __m128i *)((const int32_t *)w->bias + (size_t)b * 4)));
    int32_t out = gs_bytes4(all, _mm_loadu_ps(a->q.scale + (size_t)b * 4), &a->q);
    memcpy((int8_t *)a->y + (size_t)b * a->y_stride, &out, 4);
  }
}
