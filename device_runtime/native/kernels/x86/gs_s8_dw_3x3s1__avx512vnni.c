/* Depthwise int8 3x3 stride 1. The three taps of a kernel row (and one empty tap) meet in one vpdpbusd after two shuffles:
 * vpermd puts pixels p..p+3 in the 128-bit lane of output pixel p, vpshufb turns their 4x4 bytes. A strip of 16 pixels walks
 * down the plane, so that every input row is shuffled once for the three output rows that use it. */
#include "avx512_dw.h"

GS_INLINE void strip(const gs_dw_args *a, uint32_t ox, const gs_dw512 *k, const int nq) {
  const uint8_t *x = (const uint8_t *)a->x + (size_t)ox * 4;
  const __mmask16 keep = gs_first16(a->ow - ox);
  __m512i up[4], mid[4];
  GS_UNROLL for (int i = 0; i < nq; i++) up[i] = mid[i] = k->bias;
  for (uint32_t iy = 0; iy < a->oh + 2; iy++, x += a->x_row) {
    __m512i v = _mm512_xor_si512(_mm512_loadu_si512(x), k->shift), t[4];
    t[0] = gs_dw512_taps(v, 0, 1);
    if (nq > 1) t[1] = gs_dw512_taps(v, 4, 1);
    if (nq > 2) {
      v = _mm512_xor_si512(_mm512_loadu_si512(x + 32), k->shift);
      t[2] = gs_dw512_taps(v, 0, 1);
      if (nq > 3) t[3] = gs_dw512_taps(v, 4, 1);
    }
    GS_UNROLL for (int i = 0; i < nq; i++) {
      __m512i done = _mm512_dpbusd_epi32(up[i], t[i], k->w[2]);
      up[i] = _mm512_dpbusd_epi32(mid[i], t[i], k->w[1]);
      mid[i] = _mm512_dpbusd_epi32(k->bias, t[i], k->w[0]);
      t[i] = done;
    }
    if (iy < 2) continue;
    _mm512_mask_storeu_epi32((int8_t *)a->y + ((size_t)(iy - 2) * a->ow + ox) * 4, keep, gs_dw512_out(t, nq, k));
  }
}

GS_TARGET void gs_s8_dw_3x3s1__avx512vnni(const gs_dw_args *a) {
  gs_dw512 k;
  if (!gs_dw512_make(a, &k)) {
    gs_s8_dw_any__avx512vnni(a);
    return;
  }
  for (uint32_t ox = 0; ox < a->ow; ox += 16) {
    uint32_t left = a->ow - ox;
    if (left > 12) strip(a, ox, &k, 4);
    else if (left > 8) strip(a, ox, &k, 3);
    else if (left > 4) strip(a, ox, &k, 2);
    else strip(a, ox, &k, 1);
  }
}
