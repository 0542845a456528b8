/* Sparse int8 in 1x4 blocks times one vector: sixteen entries of a row gathered at once. */
#include "avx512.h"

GS_TARGET void gs_s8_mm_1x4_4x1__avx512vnni(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  for (uint32_t b = a->block0; b < a->block1; b++) {
    int32_t sum[4];
    for (uint32_t r = 0; r < 4; r++) {
      const size_t row = (size_t)b * 4 + r;
      const uint32_t last = w->start[row + 1];
      __m512i acc = _mm512_setzero_si512();
      for (uint32_t e = w->start[row]; e < last; e += 16) {
        __mmask16 keep = gs_first16(last - e);
        __m512i off = _mm512_maskz_loadu_epi32(keep, w->off + e);
        __m512i wv = _mm512_maskz_loadu_epi32(keep, (const int8_t *)w->val + (size_t)e * 4);
        __m512i xv = _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), keep, off, a->x, 1);
        acc = _mm512_dpbusd_epi32(acc, xv, wv);
      }
      sum[r] = _mm512_reduce_add_epi32(acc);
    }
    __m128i acc = _mm_add_epi32(_mm_loadu_si128((const __m128i *)sum),
                                _mm_loadu_si128((const __m128i *)((const int32_t *)w->bias + (size_t)b * 4)));
    gs_store_quad_1((int8_t *)a->y + (size_t)b * a->y_stride, acc, _mm_loadu_ps(a->q.scale + (size_t)b * 4), &a->q);
  }
}
