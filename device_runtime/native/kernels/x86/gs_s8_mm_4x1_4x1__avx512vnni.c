/* Sparse int8 in 4x1 blocks times one vector: four single columns make one group for four rows. */
#include "avx512.h"

GS_TARGET void gs_s8_mm_4x1_4x1__avx512vnni(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  const uint8_t *x = a->x;
  for (uint32_t b = a->block0; b < a->block1; b++) {
    const uint32_t last = w->start[b + 1];
    __m128i acc = _mm_loadu_si128((const __m128i *)((const int32_t *)w->bias + (size_t)b * 4));
    for (uint32_t e = w->start[b]; e < last; e += 4) {
      const uint32_t *off = w->off + e;
      uint32_t xv = (uint32_t)x[off[0]] | (uint32_t)x[off[1]] << 8 | (uint32_t)x[off[2]] << 16 | (uint32_t)x[off[3]] << 24;
      acc = _mm_dpbusd_epi32(acc, _mm_set1_epi32((int32_t)xv),
                             _mm_loadu_si128((const __m128i *)((const int8_t *)w->val + (size_t)e * 4)));
    }
    gs_store_quad_1((int8_t *)a->y + (size_t)b * a->y_stride, acc, _mm_loadu_ps(a->q.scale + (size_t)b * 4), &a->q);
  }
}
