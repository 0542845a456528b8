/* Depthwise f32 on AVX2: columns of eight output pixels, walked down the plane. Every input row is loaded once and meets all the
 * output rows that read it; what lies outside the plane is masked away and adds nothing. */
#ifndef GS_X86_AVX2_DW_F32_H
#define GS_X86_AVX2_DW_F32_H
#include "avx2.h"

/* The taps of one input row. With stride 2 two registers give a tap, in the order of pixels 0 1 4 5 2 3 6 7. */
GS_INLINE void gs_dw_row256(const float *x, const __m256i *inside, const int k, const int stride, __m256 v[5]) {
  if (stride == 1) {
    GS_UNROLL for (int t = 0; t < k; t++) v[t] = _mm256_maskload_ps(x + t, inside[t]);
    return;
  }
  GS_UNROLL for (int t = 0; t < k; t += 2) {
    const __m256 low = _mm256_maskload_ps(x + t, inside[t]), high = _mm256_maskload_ps(x + t + 8, inside[t + 1]);
    v[t] = _mm256_shuffle_ps(low, high, 0x88);
    if (t + 1 < k) v[t + 1] = _mm256_shuffle_ps(low, high, 0xdd);
  }
}

/* Eight output pixels of every row from column ox on; where a row has fewer, the next row overwrites what is too much. part[j]:
 * sums of the output rows under way, the one to be finished first. */
GS_INLINE void gs_dw_column256(const gs_dw_args *a, uint32_t ox, const int k, const int stride) {
  const __m256 lo = _mm256_set1_ps(a->lo), hi = _mm256_set1_ps(a->hi), bias = _mm256_set1_ps(*(const float *)a->bias);
  const int parts = stride == 1 ? k - 1 : k / 2;
  const int64_t col = (int64_t)ox * stride - a->left;
  __m256i inside[6];
  GS_UNROLL for (int t = 0; t < (stride == 1 ? k : k + 1); t++)
    inside[t] = gs_columns256(col + (stride == 1 ? t : t / 2 * 2 + t % 2 * 8), a->iw);
  __m256 w[25], part[4], v[5];
  GS_UNROLL for (int t = 0; t < k * k; t++) w[t] = _mm256_set1_ps(((const float *)a->w)[t]);
  GS_UNROLL for (int j = 0; j < parts; j++) part[j] = bias;
  const size_t x_row = a->x_row, y_row = a->ow; /* here, because y may lie over anything for all the compiler knows */
  const int64_t rows = a->ih, steps = (int64_t)a->oh + parts, y_px = a->y_px;
  float *y = (float *)a->y + ox;
  int64_t at = ox;
  const char *x = (const char *)a->x + (-(int64_t)a->top * (int64_t)x_row + col * 4);
  int64_t iy = -(int64_t)a->top;
  for (int64_t r = 0; r < steps; r++) {
    __m256 done = part[0];
    if (iy >= 0 && iy < rows) {
      gs_dw_row256((const float *)(const void *)x, inside, k, stride, v);
      /* Sums of a row on their own first: three short chains, and additions where no fma waits. */
      GS_UNROLL for (int ky = k - 1, j = -1; ky >= 0; ky -= stride, j++) {
        __m256 t = ky == 0 ? _mm256_fmadd_ps(v[0], w[0], bias) : _mm256_mul_ps(v[0], w[ky * k]);
        GS_UNROLL for (int kx = 1; kx < k; kx++) t = _mm256_fmadd_ps(v[kx], w[ky * k + kx], t);
        if (j < 0) done = _mm256_add_ps(done, t);
        else part[j] = ky == 0 ? t : _mm256_add_ps(part[j + 1], t);
      }
    } else {
      GS_UNROLL for (int j = 0; j < parts; j++) part[j] = j + 1 < parts ? part[j + 1] : bias;
    }
    if (r >= parts) {
      done = _mm256_min_ps(_mm256_max_ps(done, lo), hi);
      if (stride == 2) done = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(done), 0xd8));
      if (at + 8 <= y_px) _mm256_storeu_ps(y, done);
      else _mm256_maskstore_ps(y, gs_first8((uint32_t)(y_px - at)), done);
      y += y_row;
      at += (int64_t)y_row;
    }
    x += x_row;
    iy++;
    if (stride == 1) continue;
    if (iy >= 0 && iy < rows) { /* the row between, whose taps are odd ones of the sums under way */
      gs_dw_row256((const float *)(const void *)x, inside, k, stride, v);
      GS_UNROLL for (int ky = k - 2, j = 0; ky >= 0; ky -= stride, j++) {
        __m256 t = _mm256_mul_ps(v[0], w[ky * k]);
        GS_UNROLL for (int kx = 1; kx < k; kx++) t = _mm256_fmadd_ps(v[kx], w[ky * k + kx], t);
        part[j] = _mm256_add_ps(part[j], t);
      }
    }
    x += x_row;
    iy++;
  }
}

/* The last column ends with the row and computes again what the one before it has. */
GS_INLINE void gs_dw_f32_256(const gs_dw_args *a, const int k, const int stride) {
  for (uint32_t ox = 0; ox < a->ow; ox += 8) gs_dw_column256(a, a->ow >= 8 && ox + 8 > a->ow ? a->ow - 8 : ox, k, stride);
}
#endif
