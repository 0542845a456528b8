/* Depthwise f32 on AVX-512: columns of up to sixteen output pixels, walked down the plane. Every input row is loaded once and
 * meets all the output rows that read it; what lies outside the plane is masked away and adds nothing. */
#ifndef GS_X86_AVX512_DW_F32_H
#define GS_X86_AVX512_DW_F32_H
#include "avx512.h"

/* Lanes of sixteen columns from first on that lie in [0, width). */
GS_INLINE __mmask16 gs_dw_columns512(int64_t first, int64_t width) {
  const int64_t low = first < 0 ? -first : 0, high = width - first;
  return low >= 16 || high <= low ? 0 : (__mmask16)(gs_first16((size_t)high) & ~gs_first16((size_t)low));
}

/* The taps of one input row for every output pixel of the column. A load that crosses cache lines costs two, a shuffle next to
 * nothing: with stride 1 sixteen pixels give the taps of 17 - k outputs, with stride 2 thirty-two those of 15 or 14. */
GS_INLINE void gs_dw_row512(const char *x, const __mmask16 *inside, const int k, const int stride, __m512 v[5]) {
  v[0] = _mm512_maskz_loadu_ps(inside[0], x);
  if (stride == 1) {
    const __m512i all = _mm512_castps_si512(v[0]);
    v[1] = _mm512_castsi512_ps(_mm512_alignr_epi32(all, all, 1));
    v[2] = _mm512_castsi512_ps(_mm512_alignr_epi32(all, all, 2));
    if (k == 3) return;
    v[3] = _mm512_castsi512_ps(_mm512_alignr_epi32(all, all, 3));
    v[4] = _mm512_castsi512_ps(_mm512_alignr_epi32(all, all, 4));
    return;
  }
  const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
  const __m512 low = v[0], high = _mm512_maskz_loadu_ps(inside[1], x + 64);
  GS_UNROLL for (int t = 0; t < k; t++) v[t] = _mm512_permutex2var_ps(low, _mm512_add_epi32(even, _mm512_set1_epi32(t)), high);
}

/* n output pixels of every row from column ox on. part[j]: sums of the output rows under way, the one to be finished first. */
GS_INLINE void gs_dw_column512(const gs_dw_args *a, uint32_t ox, uint32_t n, const int k, const int stride) {
  const __m512 lo = _mm512_set1_ps(a->lo), hi = _mm512_set1_ps(a->hi), bias = _mm512_set1_ps(*(const float *)a->bias);
  const int parts = stride == 1 ? k - 1 : k / 2;
  const int64_t col = (int64_t)ox * stride - a->left;
  const __mmask16 keep = gs_first16(n);
  __mmask16 inside[2];
  GS_UNROLL for (int t = 0; t < 2; t++) inside[t] = gs_dw_columns512(col + 16 * t, a->iw);
  __m512 w[25], part[4], v[5];
  GS_UNROLL for (int t = 0; t < k * k; t++) w[t] = _mm512_set1_ps(((const float *)a->w)[t]);
  GS_UNROLL for (int j = 0; j < parts; j++) part[j] = bias;
  const size_t x_row = a->x_row, y_row = a->ow; /* here, because y may lie over anything for all the compiler knows */
  const int64_t rows = a->ih, steps = (int64_t)a->oh + parts;
  float *y = (float *)a->y + ox;
  const char *x = (const char *)a->x + (-(int64_t)a->top * (int64_t)x_row + col * 4);
  int64_t iy = -(int64_t)a->top;
  for (int64_t r = 0; r < steps; r++) {
    __m512 done = part[0];
    if (iy >= 0 && iy < rows) {
      gs_dw_row512(x, inside, k, stride, v);
      /* Sums of a row on their own first: three short chains, and additions where no fma waits. */
      GS_UNROLL for (int ky = k - 1, j = -1; ky >= 0; ky -= stride, j++) {
        __m512 t = ky == 0 ? _mm512_fmadd_ps(v[0], w[0], bias) : _mm512_mul_ps(v[0], w[ky * k]);
        GS_UNROLL for (int kx = 1; kx < k; kx++) t = _mm512_fmadd_ps(v[kx], w[ky * k + kx], t);
        if (j < 0) done = _mm512_add_ps(done, t);
        else part[j] = ky == 0 ? t : _mm512_add_ps(part[j + 1], t);
      }
    } else {
      GS_UNROLL for (int j = 0; j < parts; j++) part[j] = j + 1 < parts ? part[j + 1] : bias;
    }
    if (r >= parts) {
      _mm512_mask_storeu_ps(y, keep, _mm512_min_ps(_mm512_max_ps(done, lo), hi));
      y += y_row;
    }
    x += x_row;
    iy++;
    if (stride == 1) continue;
    if (iy >= 0 && iy < rows) { /* the row between, whose taps are odd ones of the sums under way */
      gs_dw_row512(x, inside, k, stride, v);
      GS_UNROLL for (int ky = k - 2, j = 0; ky >= 0; ky -= stride, j++) {
        __m512 t = _mm512_mul_ps(v[0], w[ky * k]);
        GS_UNROLL for (int kx = 1; kx < k; kx++) t = _mm512_fmadd_ps(v[kx], w[ky * k + kx], t);
        part[j] = _mm512_add_ps(part[j], t);
      }
    }
    x += x_row;
    iy++;
  }
}

/* Columns of equal width. */
GS_INLINE void gs_dw_f32_512(const gs_dw_args *a, const int k, const int stride) {
  const uint32_t most = stride == 1 ? (uint32_t)(17 - k) : k == 3 ? 15 : 14;
  const uint32_t columns = (a->ow + most - 1) / most, width = (a->ow + columns - 1) / columns;
  for (uint32_t ox = 0; ox < a->ow; ox += width)
    gs_dw_column512(a, ox, a->ow - ox < width ? a->ow - ox : width, k, stride);
}
#endif
