/* Depthwise f32 3x3 stride 2: eight output pixels at once, loads masked to what exists. */
#include "avx2.h"

/* Pixels 0, 2, 4, ... of which n exist. */
GS_INLINE __m256 pixels(const float *x, uint32_t n) {
  __m256 low = _mm256_maskload_ps(x, gs_first8(2 * n - 1));
  __m256 high = n > 4 ? _mm256_maskload_ps(x + 8, gs_first8(2 * n - 9)) : _mm256_setzero_ps();
  return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(_mm256_shuffle_ps(low, high, 0x88)), 0xd8));
}

GS_TARGET void gs_f32_dw_3x3s2__avx2(const gs_dw_args *a) {
  const __m256 lo = _mm256_set1_ps(a->lo), hi = _mm256_set1_ps(a->hi), bias = _mm256_set1_ps(*(const float *)a->bias);
  const float *w = a->w;
  for (uint32_t oy = 0; oy < a->oh; oy++)
    for (uint32_t ox = 0; ox < a->ow; ox += 8) {
      const uint32_t n = a->ow - ox < 8 ? a->ow - ox : 8;
      const char *x = (const char *)a->x + (size_t)oy * 2 * a->x_row + (size_t)ox * 8;
      __m256 acc = bias;
      GS_UNROLL for (int t = 0; t < 9; t++) {
        const float *xt = (const float *)(const void *)(x + (size_t)(t / 3) * a->x_row) + t % 3;
        acc = _mm256_fmadd_ps(pixels(xt, n), _mm256_set1_ps(w[t]), acc);
      }
      acc = _mm256_min_ps(_mm256_max_ps(acc, lo), hi);
      _mm256_maskstore_ps((float *)a->y + (size_t)oy * a->ow + ox, gs_first8(n), acc);
    }
}
