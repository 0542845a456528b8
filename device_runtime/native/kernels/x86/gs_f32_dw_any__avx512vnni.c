/* Depthwise f32, any window, stride and dilation: sixteen output pixels of a row at once, loads masked to what exists. */
#include "avx512.h"

/* Pixels 0, stride, 2 * stride, ... at x. */
GS_INLINE __m512 pixels(const float *x, uint32_t left, uint32_t stride) {
  const uint32_t n = left < 16 ? left : 16;
  if (stride == 1) return _mm512_maskz_loadu_ps(gs_first16(n), x);
  if (stride == 2) {
    const __m512i even = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    __m512 low = _mm512_maskz_loadu_ps(gs_first16(2 * n - 1), x);
    __m512 high = _mm512_maskz_loadu_ps(n > 8 ? gs_first16(2 * n - 17) : 0, x + 16);
    return _mm512_permutex2var_ps(low, even, high);
  }
  const __m512i step = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  __m512i index = _mm512_mullo_epi32(step, _mm512_set1_epi32((int32_t)stride));
  return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), gs_first16(n), index, x, 4);
}

GS_TARGET void gs_f32_dw_any__avx512vnni(const gs_dw_args *a) {
  const __m512 lo = _mm512_set1_ps(a->lo), hi = _mm512_set1_ps(a->hi);
  const __m512 bias = _mm512_set1_ps(*(const float *)a->bias);
  for (uint32_t oy = 0; oy < a->oh; oy++)
    for (uint32_t ox = 0; ox < a->ow; ox += 16) {
      const uint32_t left = a->ow - ox;
      const char *x = (const char *)a->x + (size_t)oy * a->sh * a->x_row + (size_t)ox * a->sw * 4;
      const float *w = a->w;
      __m512 acc = bias;
      for (uint32_t ky = 0; ky < a->kh; ky++)
        for (uint32_t kx = 0; kx < a->kw; kx++, w++) {
          const float *xt = (const float *)(const void *)(x + (size_t)ky * a->dh * a->x_row) + (size_t)kx * a->dw;
          acc = _mm512_fmadd_ps(pixels(xt, left, a->sw), _mm512_set1_ps(*w), acc);
        }
      _mm512_mask_storeu_ps((float *)a->y + (size_t)oy * a->ow + ox, gs_first16(left),
                            _mm512_min_ps(_mm512_max_ps(acc, lo), hi));
    }
}
