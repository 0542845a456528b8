/* Depthwise int8, any window, stride, dilation and 16-bit weight: four pixels of four lanes widened to dwords whose low half
 * meets the weight in vpdpwssd. */
#include "avx512.h"

/* Four pixels of one tap, the last one repeated where the row of outputs ends. */
GS_INLINE __m128i four(const uint8_t *x, uint32_t left, uint32_t stride) {
  if (stride == 1) return _mm_loadu_si128((const __m128i *)x);
  uint32_t i1 = left > 1 ? 1 : left - 1, i2 = left > 2 ? 2 : left - 1, i3 = left > 3 ? 3 : left - 1;
  return _mm_setr_epi32(gs_load_i32(x), gs_load_i32(x + (size_t)i1 * stride * 4), gs_load_i32(x + (size_t)i2 * stride * 4),
                        gs_load_i32(x + (size_t)i3 * stride * 4));
}

GS_TARGET void gs_s8_dw_any__avx512vnni(const gs_dw_args *a) {
  const __m512 scale = _mm512_broadcast_f32x4(_mm_loadu_ps(a->q.scale));
  const __m512i bias = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)a->bias));
  const __m512i order = gs_opaque512(_mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0));
  const gs_rq512 q = gs_rq512_make(&a->q);
  for (uint32_t oy = 0; oy < a->oh; oy++)
    for (uint32_t ox = 0; ox < a->ow; ox += 16) {
      const uint32_t left = a->ow - ox, quads = left >= 16 ? 4 : (left + 3) / 4;
      const uint8_t *x = (const uint8_t *)a->x + (size_t)oy * a->sh * a->x_row + (size_t)ox * a->sw * 4;
      __m512i acc[4] = {bias, bias, bias, bias};
      const int16_t *w = a->w;
      for (uint32_t ky = 0; ky < a->kh; ky++)
        for (uint32_t kx = 0; kx < a->kw; kx++, w += 4) {
          const uint8_t *xt = x + (size_t)ky * a->dh * a->x_row + (size_t)kx * a->dw * 4;
          __m512i wv = _mm512_broadcast_i32x4(_mm_cvtepu16_epi32(_mm_loadl_epi64((const __m128i *)w)));
          GS_UNROLL for (uint32_t i = 0; i < 4; i++) {
            if (i >= quads) break;
            __m128i v = four(xt + (size_t)i * 16 * a->sw, left - i * 4, a->sw);
            acc[i] = _mm512_dpwssd_epi32(acc[i], _mm512_cvtepi8_epi32(v), wv);
          }
        }
      const __m512i low = _mm512_packs_epi32(gs_rq512_acc(acc[0], scale, &q), gs_rq512_acc(acc[1], scale, &q));
      const __m512i high = _mm512_packs_epi32(gs_rq512_acc(acc[2], scale, &q), gs_rq512_acc(acc[3], scale, &q));
      _mm512_mask_storeu_epi32((int8_t *)a->y + ((size_t)oy * a->ow + ox) * 4, gs_first16(left),
                               _mm512_permutexvar_epi32(order, _mm512_packs_epi16(low, high)));
    }
}
