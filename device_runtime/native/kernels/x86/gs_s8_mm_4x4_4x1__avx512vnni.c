/* Sparse int8 in 4x4 blocks times one vector: four entries (64 weights) a step. */
#include "avx512.h"

GS_TARGET void gs_s8_mm_4x4_4x1__avx512vnni(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  const uint8_t *x = a->x;
  for (uint32_t b = a->block0; b < a->block1; b++) {
    const uint32_t last = w->start[b + 1];
    uint32_t e = w->start[b];
    const int8_t *val = w->val;
    __m512i wide = _mm512_setzero_si512();
    __m128i acc = _mm_loadu_si128((const __m128i *)((const int32_t *)w->bias + (size_t)b * 4));
    for (; e + 4 <= last; e += 4) {
      const uint32_t *off = w->off + e;
      __m512i xv = _mm512_set1_epi32(gs_load_i32(x + off[0]));
      xv = _mm512_mask_set1_epi32(xv, 0x00f0, gs_load_i32(x + off[1]));
      xv = _mm512_mask_set1_epi32(xv, 0x0f00, gs_load_i32(x + off[2]));
      xv = _mm512_mask_set1_epi32(xv, 0xf000, gs_load_i32(x + off[3]));
      wide = _mm512_dpbusd_epi32(wide, xv, _mm512_loadu_si512(val + (size_t)e * 16));
    }
    for (; e < last; e++)
      acc = _mm_dpbusd_epi32(acc, _mm_set1_epi32(gs_load_i32(x + w->off[e])),
                             _mm_loadu_si128((const __m128i *)(val + (size_t)e * 16)));
    __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(wide), _mm512_extracti64x4_epi64(wide, 1));
    acc = _mm_add_epi32(acc, _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1)));
    gs_store_quad_1((int8_t *)a->y + (size_t)b * a->y_stride, acc, _mm_loadu_ps(a->q.scale + (size_t)b * 4), &a->q);
  }
}
