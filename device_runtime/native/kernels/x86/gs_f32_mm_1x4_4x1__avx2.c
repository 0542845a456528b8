/* Unstructured sparse f32 times one vector: eight entries of a row gathered at once. */
#include "avx2.h"

GS_TARGET void gs_f32_mm_1x4_4x1__avx2(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  const char *x = a->x;
  const float *val = w->val;
  const uint32_t end = a->block1 * 4 < w->rows ? a->block1 * 4 : w->rows;
  for (uint32_t row = a->block0 * 4; row < end; row++) {
    const uint32_t last = w->start[row + 1];
    uint32_t e = w->start[row];
    float sum = ((const float *)w->bias)[row];
    __m256 acc = _mm256_setzero_ps();
    for (; e + 8 <= last; e += 8) {
      __m256 xv = _mm256_i32gather_ps((const float *)(const void *)x, _mm256_loadu_si256((const __m256i *)(w->off + e)), 1);
      acc = _mm256_fmadd_ps(xv, _mm256_loadu_ps(val + e), acc);
    }
    for (; e < last; e++) {
      float v;
      memcpy(&v, x + w->off[e], 4);
      sum += v * val[e];
    }
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(acc), _mm256_extractf128_ps(acc, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    sum += _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
    sum = sum > a->lo ? sum : a->lo;
    ((float *)a->y)[row] = sum < a->hi ? sum : a->hi;
  }
}
