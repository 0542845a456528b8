/* Matrix products on AVX2: one step and the end of four rows, whatever list their columns come from. */
#ifndef GS_X86_AVX2_MM_H
#define GS_X86_AVX2_MM_H
#include "avx2.h"

/* acc[r] += one group of eight pixels, widened, times four int16 weights of row r. */
GS_INLINE void gs_rows256(__m256i acc[4][2], __m256i x0, __m256i x1, const int16_t *val) {
  GS_UNROLL for (int r = 0; r < 4; r++) {
    __m256i wr = _mm256_set1_epi64x(gs_load_i64(val + 4 * r));
    acc[r][0] = _mm256_add_epi32(acc[r][0], _mm256_madd_epi16(x0, wr));
    acc[r][1] = _mm256_add_epi32(acc[r][1], _mm256_madd_epi16(x1, wr));
  }
}

/* Bias, requantisation and store of eight pixels of four rows. */
GS_INLINE void gs_store_quad256(const gs_mm_args *a, uint32_t block, uint32_t pixel, __m256i acc[4][2]) {
  const int32_t *bias = (const int32_t *)a->w->bias + (size_t)block * 4;
  const float *scale = a->q.scale + (size_t)block * 4;
  const gs_rq256 q = gs_rq256_make(&a->q);
  __m256i out[4];
  GS_UNROLL for (int r = 0; r < 4; r++) {
    __m256i sum = _mm256_add_epi32(gs_pairs256(acc[r][0], acc[r][1]), _mm256_set1_epi32(bias[r]));
    out[r] = gs_rq256_acc(sum, _mm256_set1_ps(scale[r]), &q);
  }
  int8_t *y = (int8_t *)a->y + (size_t)block * a->y_stride + (size_t)pixel * 4;
  _mm256_storeu_si256((__m256i *)y, gs_quad256(out[0], out[1], out[2], out[3]));
}

/* acc[r] += one column of sixteen pixels times the weight of row r. */
GS_INLINE void gs_rows_f32_256(__m256 acc[4][2], __m256 x0, __m256 x1, const float *val) {
  GS_UNROLL for (int r = 0; r < 4; r++) {
    __m256 wr = _mm256_set1_ps(val[r]);
    acc[r][0] = _mm256_fmadd_ps(x0, wr, acc[r][0]);
    acc[r][1] = _mm256_fmadd_ps(x1, wr, acc[r][1]);
  }
}

/* Clamp and store of sixteen pixels of those of four rows that exist. */
GS_INLINE void gs_store_rows_f32_256(const gs_mm_args *a, uint32_t block, uint32_t pixel, __m256 acc[4][2]) {
  const uint32_t rows = a->w->rows - block * 4;
  const __m256 lo = _mm256_set1_ps(a->lo), hi = _mm256_set1_ps(a->hi);
  GS_UNROLL for (uint32_t r = 0; r < 4; r++) {
    if (r >= rows) break;
    float *y = (float *)(void *)((char *)a->y + (size_t)(block * 4 + r) * a->y_stride) + pixel;
    _mm256_storeu_ps(y, _mm256_min_ps(_mm256_max_ps(acc[r][0], lo), hi));
    _mm256_storeu_ps(y + 8, _mm256_min_ps(_mm256_max_ps(acc[r][1], lo), hi));
  }
}
#endif
