/* Sparse f32 in 4x1 blocks times one vector: four columns of four rows a step. */
#include "avx512.h"

GS_TARGET void gs_f32_mm_4x4_4x1__avx512vnni(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  const char *x = a->x;
  const __m128 lo = _mm_set1_ps(a->lo), hi = _mm_set1_ps(a->hi);
  for (uint32_t b = a->block0; b < a->block1; b++) {
    const uint32_t last = w->start[b + 1];
    uint32_t e = w->start[b];
    const float *val = w->val;
    __m512 wide = _mm512_setzero_ps();
    __m128 acc = _mm_loadu_ps((const float *)w->bias + (size_t)b * 4);
    for (; e + 4 <= last; e += 4) {
      const uint32_t *off = w->off + e;
      __m512i xv = _mm512_set1_epi32(gs_load_i32(x + off[0]));
      xv = _mm512_mask_set1_epi32(xv, 0x00f0, gs_load_i32(x + off[1]));
      xv = _mm512_mask_set1_epi32(xv, 0x0f00, gs_load_i32(x + off[2]));
      xv = _mm512_mask_set1_epi32(xv, 0xf000, gs_load_i32(x + off[3]));
      wide = _mm512_fmadd_ps(_mm512_castsi512_ps(xv), _mm512_loadu_ps(val + (size_t)e * 4), wide);
    }
    for (; e < last; e++)
      acc = _mm_fmadd_ps(_mm_castsi128_ps(_mm_set1_epi32(gs_load_i32(x + w->off[e]))), _mm_loadu_ps(val + (size_t)e * 4), acc);
    acc = _mm_add_ps(acc, _mm_add_ps(_mm_add_ps(_mm512_castps512_ps128(wide), _mm512_extractf32x4_ps(wide, 1)),
                                     _mm_add_ps(_mm512_extractf32x4_ps(wide, 2), _mm512_extractf32x4_ps(wide, 3))));
    acc = _mm_min_ps(_mm_max_ps(acc, lo), hi);
    _mm_mask_storeu_ps((float *)a->y + (size_t)b * 4, (__mmask8)(gs_first16(w->rows - b * 4) & 15), acc);
  }
}
