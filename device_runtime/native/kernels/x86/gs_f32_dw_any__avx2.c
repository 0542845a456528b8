/* Depthwise f32, any window, stride and dilation: eight output pixels of a row, gathered. */
#include "avx2.h"

GS_TARGET void gs_f32_dw_any__avx2(const gs_dw_args *a) {
  const __m256 lo = _mm256_set1_ps(a->lo), hi = _mm256_set1_ps(a->hi), bias = _mm256_set1_ps(*(const float *)a->bias);
  const __m256i step = _mm256_mullo_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32((int32_t)a->sw));
  for (uint32_t oy = 0; oy < a->oh; oy++)
    for (uint32_t ox = 0; ox < a->ow; ox += 8) {
      const __m256i keep = gs_first8(a->ow - ox);
      const char *x = (const char *)a->x + (size_t)oy * a->sh * a->x_row + (size_t)ox * a->sw * 4;
      const float *w = a->w;
      __m256 acc = bias;
      for (uint32_t ky = 0; ky < a->kh; ky++)
        for (uint32_t kx = 0; kx < a->kw; kx++, w++) {
          const float *xt = (const float *)(const void *)(x + (size_t)ky * a->dh * a->x_row) + (size_t)kx * a->dw;
          __m256 xv = a->sw == 1 ? _mm256_maskload_ps(xt, keep)
                                 : _mm256_mask_i32gather_ps(_mm256_setzero_ps(), xt, step, _mm256_castsi256_ps(keep), 4);
          acc = _mm256_fmadd_ps(xv, _mm256_set1_ps(*w), acc);
        }
      acc = _mm256_min_ps(_mm256_max_ps(acc, lo), hi);
      _mm256_maskstore_ps((float *)a->y + (size_t)oy * a->ow + ox, keep, acc);
    }
}
