/* Depthwise int8 5x5 on AVX-512 VNNI: two vpdpbusd a kernel row, the second for the fifth tap alone. */
#ifndef GS_X86_AVX512_DW5_H
#define GS_X86_AVX512_DW5_H
#include "avx512_dw.h"

GS_INLINE void gs_dw512_5x5(const gs_dw_args *a, uint32_t ox, const gs_dw512 *k, const int nq, const int stride) {
  const __m512i near = gs_dw512_pick(0, stride), far = gs_dw512_pick(4, stride);
  const int64_t first = (int64_t)ox * stride - a->left;
  const __mmask16 keep = gs_first16(a->ow - ox);
  int8_t *y = (int8_t *)a->y + (size_t)ox * 4;
  __mmask16 inside[4];
  GS_UNROLL for (int i = 0; i < nq; i++) inside[i] = gs_dw512_inside(first + 4 * stride * i, a->iw);
  for (uint32_t oy = 0; oy < a->oh; oy++, y += (size_t)a->ow * 4) {
    __m512i acc[4];
    GS_UNROLL for (int i = 0; i < nq; i++) acc[i] = k->bias;
    for (int ky = 0; ky < 5; ky++) {
      const int64_t iy = (int64_t)oy * stride + ky - a->top;
      const int outside = iy < 0 || iy >= (int64_t)a->ih;
      const int8_t *x = (const int8_t *)a->x + first * 4 + iy * (int64_t)a->x_row;
      const __m512i w0 = gs_dw512_w(a, 2 * ky), w1 = gs_dw512_w(a, 2 * ky + 1);
      GS_UNROLL for (int i = 0; i < nq; i++) {
        __m512i v = outside ? _mm512_xor_si512(k->pad, k->shift) : gs_dw512_load(x + 16 * stride * i, inside[i], k);
        acc[i] = _mm512_dpbusd_epi32(acc[i], gs_dw512_taps(v, near, k), w0);
        acc[i] = _mm512_dpbusd_epi32(acc[i], gs_dw512_taps(v, far, k), w1);
      }
    }
    _mm512_mask_storeu_epi32(y, keep, gs_dw512_out(acc, nq, k));
  }
}
#endif
