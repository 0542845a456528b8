/* Sparse f32 in 4x1 blocks times one vector: two columns of four rows a step. */
#include "avx2.h"

GS_TARGET void gs_f32_mm_4x4_4x1__avx2(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  const char *x = a->x;
  const __m128 lo = _mm_set1_ps(a->lo), hi = _mm_set1_ps(a->hi);
  for (uint32_t b = a->block0; b < a->block1; b++) {
    const uint32_t last = w->start[b + 1];
    uint32_t e = w->start[b];
    const float *val = w->val;
    __m256 wide = _mm256_setzero_ps();
    __m128 acc = _mm_loadu_ps((const float *)w->bias + (size_t)b * 4);
    for (; e + 2 <= last; e += 2) {
      __m128i x0 = _mm_set1_epi32(gs_load_i32(x + w->off[e])), x1 = _mm_set1_epi32(gs_load_i32(x + w->off[e + 1]));
      wide = _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_set_m128i(x1, x0)), _mm256_loadu_ps(val + (size_t)e * 4), wide);
    }
    if (e < last)
      acc = _mm_fmadd_ps(_mm_castsi128_ps(_mm_set1_epi32(gs_load_i32(x + w->off[e]))), _mm_loadu_ps(val + (size_t)e * 4), acc);
    acc = _mm_add_ps(acc, _mm_add_ps(_mm256_castps256_ps128(wide), _mm256_extractf128_ps(wide, 1)));
    acc = _mm_min_ps(_mm_max_ps(acc, lo), hi);
    _mm_maskstore_ps((float *)a->y + (size_t)b * 4, gs_first4(w->rows - b * 4), acc);
  }
}
