/* Depthwise f32 3x3 stride 2: nine weights in registers, sixteen output pixels at once, loads masked to what exists. */
#include "avx512.h"

GS_TARGET void gs_f32_dw_3x3s2__avx512vnni(const gs_dw_args *a) {
  const __m512 lo = _mm512_set1_ps(a->lo), hi = _mm512_set1_ps(a->hi);
  const __m512 bias = _mm512_set1_ps(*(const float *)a->bias);
  const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
  __m512 w[9];
  GS_UNROLL for (int t = 0; t < 9; t++) w[t] = _mm512_set1_ps(((const float *)a->w)[t]);
  for (uint32_t oy = 0; oy < a->oh; oy++)
    for (uint32_t ox = 0; ox < a->ow; ox += 16) {
      const __mmask16 keep = gs_first16(a->ow - ox);
      const char *x = (const char *)a->x + (size_t)oy * 2 * a->x_row + (size_t)ox * 8;
      const uint32_t n = a->ow - ox < 16 ? a->ow - ox : 16;
      const __mmask16 low = gs_first16(2 * n - 1), high = n > 8 ? gs_first16(2 * n - 17) : 0;
      __m512 acc = bias;
      GS_UNROLL for (int ky = 0; ky < 3; ky++)
        GS_UNROLL for (int kx = 0; kx < 3; kx++) {
          const char *row = x + (size_t)ky * a->x_row + 4 * kx;
          __m512 v = _mm512_permutex2var_ps(_mm512_maskz_loadu_ps(low, row), even, _mm512_maskz_loadu_ps(high, row + 64));
          acc = _mm512_fmadd_ps(v, w[ky * 3 + kx], acc);
        }
      _mm512_mask_storeu_ps((float *)a->y + (size_t)oy * a->ow + ox, keep, _mm512_min_ps(_mm512_max_ps(acc, lo), hi));
    }
}
