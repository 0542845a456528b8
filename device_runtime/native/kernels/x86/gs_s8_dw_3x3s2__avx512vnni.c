/* Depthwise int8 3x3 stride 2: as stride 1, with every second pixel picked by the same two shuffles. */
#include "avx512_dw.h"

GS_INLINE void step(const gs_dw_args *a, uint32_t oy, uint32_t ox, const gs_dw512 *k, const int nq) {
  const uint8_t *x = (const uint8_t *)a->x + (size_t)oy * 2 * a->x_row + (size_t)ox * 8;
  __m512i acc[4];
  GS_UNROLL for (int i = 0; i < nq; i++) acc[i] = k->bias;
  GS_UNROLL for (int ky = 0; ky < 3; ky++) {
    GS_UNROLL for (int i = 0; i < nq; i++) {
      __m512i v = _mm512_xor_si512(_mm512_loadu_si512(x + (size_t)ky * a->x_row + 32 * i), k->shift);
      acc[i] = _mm512_dpbusd_epi32(acc[i], gs_dw512_taps(v, 0, 2), k->w[ky]);
    }
  }
  _mm512_mask_storeu_epi32((int8_t *)a->y + ((size_t)oy * a->ow + ox) * 4, gs_first16(a->ow - ox),
                           gs_dw512_out(acc, nq, k));
}

GS_TARGET void gs_s8_dw_3x3s2__avx512vnni(const gs_dw_args *a) {
  gs_dw512 k;
  if (!gs_dw512_make(a, &k)) {
    gs_s8_dw_any__avx512vnni(a);
    return;
  }
  for (uint32_t oy = 0; oy < a->oh; oy++)
    for (uint32_t ox = 0; ox < a->ow; ox += 16) {
      uint32_t left = a->ow - ox;
      if (left > 12) step(a, oy, ox, &k, 4);
      else if (left > 8) step(a, oy, ox, &k, 3);
      else if (left > 4) step(a, oy, ox, &k, 2);
      else step(a, oy, ox, &k, 1);
    }
}
