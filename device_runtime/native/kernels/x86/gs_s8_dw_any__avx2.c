/* Depthwise int8, any window, stride, dilation and 16-bit weight: two pixels of four lanes a tap. */
#include "avx2.h"

/* Two pixels as dwords whose low half is the value; the second repeats the first where the row of outputs ends. */
GS_INLINE __m256i two(const int8_t *x, size_t second) {
  return _mm256_cvtepi8_epi32(_mm_unpacklo_epi32(_mm_cvtsi32_si128(gs_load_i32(x)), _mm_cvtsi32_si128(gs_load_i32(x + second))));
}

GS_TARGET void gs_s8_dw_any__avx2(const gs_dw_args *a) {
  const gs_rq256 rq = gs_rq256_make(&a->q);
  const __m256 scale = _mm256_broadcast_ps((const __m128 *)(const void *)a->q.scale);
  const __m256i bias = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)a->bias));
  for (uint32_t oy = 0; oy < a->oh; oy++)
    for (uint32_t ox = 0; ox < a->ow; ox += 2) {
      const size_t second = ox + 1 < a->ow ? (size_t)a->sw * 4 : 0;
      const int8_t *x = (const int8_t *)a->x + (size_t)oy * a->sh * a->x_row + (size_t)ox * a->sw * 4;
      const int16_t *w = a->w;
      __m256i acc = bias;
      for (uint32_t ky = 0; ky < a->kh; ky++)
        for (uint32_t kx = 0; kx < a->kw; kx++, w += 4) {
          __m256i wv = _mm256_broadcastsi128_si256(_mm_cvtepu16_epi32(_mm_loadl_epi64((const __m128i *)w)));
          __m256i xv = two(x + (size_t)ky * a->dh * a->x_row + (size_t)kx * a->dw * 4, second);
          acc = _mm256_add_epi32(acc, _mm256_madd_epi16(xv, wv));
        }
      __m256i v = gs_rq256_acc(acc, scale, &rq);
      __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
      __m128i bytes = _mm_packs_epi16(words, words);
      _mm_maskstore_epi32((int *)a->y + (size_t)oy * a->ow + ox, gs_first4(second ? 2 : 1), bytes);
    }
}
