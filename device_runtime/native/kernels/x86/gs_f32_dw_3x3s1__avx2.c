/* Depthwise f32 3x3 stride 1: eight output pixels at once, loads masked to what exists. */
#include "avx2.h"

/* Neighbouring pixels where keep is set. */
GS_INLINE __m256 pixels(const float *x, uint32_t n) { return _mm256_maskload_ps(x, gs_first8(n)); }

GS_TARGET void gs_f32_dw_3x3s1__avx2(const gs_dw_args *a) {
  const __m256 lo = _mm256_set1_ps(a->lo), hi = _mm256_set1_ps(a->hi), bias = _mm256_set1_ps(*(const float *)a->bias);
  const float *w = a->w;
  for (uint32_t oy = 0; oy < a->oh; oy++)
    for (uint32_t ox = 0; ox < a->ow; ox += 8) {
      const uint32_t n = a->ow - ox < 8 ? a->ow - ox : 8;
      const char *x = (const char *)a->x + (size_t)oy * 1 * a->x_row + (size_t)ox * 4;
      __m256 acc = bias;
      GS_UNROLL for (int t = 0; t < 9; t++) {
        const float *xt = (const float *)(const void *)(x + (size_t)(t / 3) * a->x_row) + t % 3;
        acc = _mm256_fmadd_ps(pixels(xt, n), _mm256_set1_ps(w[t]), acc);
      }
      acc = _mm256_min_ps(_mm256_max_ps(acc, lo), hi);
      _mm256_maskstore_ps((float *)a->y + (size_t)oy * a->ow + ox, gs_first8(n), acc);
    }
}
