/* Dense f32 times one vector: sixteen rows at a time, two columns in flight. */
#include "avx2.h"

GS_TARGET void gs_f32_mm_dense_16x1__avx2(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  const float *x = a->x;
  const __m256 lo = _mm256_set1_ps(a->lo), hi = _mm256_set1_ps(a->hi);
  for (uint32_t b = a->block0; b < a->block1; b++) {
    const float *val = (const float *)w->val + (size_t)b * w->groups * 16;
    const float *bias = (const float *)w->bias + (size_t)b * 16;
    __m256 acc[2][2];
    acc[0][0] = _mm256_loadu_ps(bias);
    acc[0][1] = _mm256_loadu_ps(bias + 8);
    acc[1][0] = acc[1][1] = _mm256_setzero_ps();
    uint32_t k = 0;
    for (; k + 2 <= w->groups; k += 2) {
      GS_UNROLL for (int i = 0; i < 2; i++) {
        const __m256 xv = _mm256_set1_ps(x[k + (uint32_t)i]);
        GS_UNROLL for (int h = 0; h < 2; h++)
          acc[i][h] = _mm256_fmadd_ps(xv, _mm256_loadu_ps(val + (size_t)(k + (uint32_t)i) * 16 + 8 * h), acc[i][h]);
      }
    }
    if (k < w->groups) {
      GS_UNROLL for (int h = 0; h < 2; h++)
        acc[0][h] = _mm256_fmadd_ps(_mm256_set1_ps(x[k]), _mm256_loadu_ps(val + (size_t)k * 16 + 8 * h), acc[0][h]);
    }
    GS_UNROLL for (int h = 0; h < 2; h++) {
      const uint32_t row = b * 16 + 8 * (uint32_t)h;
      if (row >= w->rows) break;
      __m256 sum = _mm256_min_ps(_mm256_max_ps(_mm256_add_ps(acc[0][h], acc[1][h]), lo), hi);
      _mm256_maskstore_ps((float *)a->y + row, gs_first8(w->rows - row), sum);
    }
  }
}
