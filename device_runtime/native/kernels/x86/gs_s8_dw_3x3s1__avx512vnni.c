/* Depthwise int8 3x3 stride 1. A strip of 16 pixels walks down the plane, so that every input row is shuffled once for the three
 * output rows that use it. */
#include "avx512_dw.h"

GS_INLINE void strip(const gs_dw_args *a, uint32_t ox, const gs_dw512 *k, const int nq) {
  const __m512i w0 = gs_dw512_w(a, 0), w1 = gs_dw512_w(a, 1), w2 = gs_dw512_w(a, 2);
  const __m512i near = gs_dw512_pick(0, 1), far = gs_dw512_pick(4, 1);
  const int64_t first = (int64_t)ox - a->left, height = a->ih;
  const __mmask16 in0 = gs_dw512_inside(first, a->iw), in1 = gs_dw512_inside(first + 8, a->iw), keep = gs_first16(a->ow - ox);
  const size_t x_row = a->x_row, y_row = (size_t)a->ow * 4;
  const int64_t rows = (int64_t)a->oh + 2 - a->top;
  const int8_t *x = (const int8_t *)a->x + first * 4 - (int64_t)a->top * (int64_t)x_row;
  int8_t *y = (int8_t *)a->y + (size_t)ox * 4;
  const __m512i padding = _mm512_xor_si512(k->pad, k->shift);
  __m512i up[4], mid[4], t[4];
  GS_UNROLL for (int i = 0; i < nq; i++) up[i] = mid[i] = k->bias;
  for (int64_t iy = -(int64_t)a->top; iy < rows; iy++, x += x_row) {
    const int outside = iy < 0 || iy >= height;
    __m512i v = outside ? padding : gs_dw512_load(x, in0, k);
    t[0] = gs_dw512_taps(v, near, k);
    if (nq > 1) t[1] = gs_dw512_taps(v, far, k);
    if (nq > 2) {
      v = outside ? padding : gs_dw512_load(x + 32, in1, k);
      t[2] = gs_dw512_taps(v, near, k);
      if (nq > 3) t[3] = gs_dw512_taps(v, far, k);
    }
    GS_UNROLL for (int i = 0; i < nq; i++) {
      __m512i done = _mm512_dpbusd_epi32(up[i], t[i], w2);
      up[i] = _mm512_dpbusd_epi32(mid[i], t[i], w1);
      mid[i] = _mm512_dpbusd_epi32(k->bias, t[i], w0);
      t[i] = done;
    }
    if (iy + a->top < 2) continue;
    _mm512_mask_storeu_epi32(y, keep, gs_dw512_out(t, nq, k));
    y += y_row;
  }
}

GS_TARGET void gs_s8_dw_3x3s1__avx512vnni(const gs_dw_args *a) { GS_FOR_STRIPS_512(strip) }
