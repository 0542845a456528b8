/* Dense int8 times one vector: sixteen rows a register, four groups in flight. */
#include "avx512.h"

GS_TARGET void gs_s8_mm_dense_16x1__avx512vnni(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  const uint8_t *x = a->x;
  const gs_rq512 q = gs_rq512_make(&a->q);
  const uint32_t padded = (w->rows + 3) / 4 * 4;
  for (uint32_t b = a->block0; b < a->block1; b++) {
    const int8_t *val = (const int8_t *)w->val + (size_t)b * w->groups * 64;
    __m512i acc[4];
    acc[0] = _mm512_loadu_si512((const int32_t *)w->bias + (size_t)b * 16);
    acc[1] = acc[2] = acc[3] = _mm512_setzero_si512();
    uint32_t g = 0;
    for (; g + 4 <= w->groups; g += 4) {
      GS_UNROLL for (int i = 0; i < 4; i++)
        acc[i] = _mm512_dpbusd_epi32(acc[i], _mm512_set1_epi32(gs_load_i32(x + (size_t)(g + i) * 4)),
                                     _mm512_loadu_si512(val + (size_t)(g + i) * 64));
    }
    for (; g < w->groups; g++)
      acc[0] = _mm512_dpbusd_epi32(acc[0], _mm512_set1_epi32(gs_load_i32(x + (size_t)g * 4)),
                                   _mm512_loadu_si512(val + (size_t)g * 64));
    __m512i sum = _mm512_add_epi32(_mm512_add_epi32(acc[0], acc[1]), _mm512_add_epi32(acc[2], acc[3]));
    __m512i out = gs_rq512_acc(sum, _mm512_loadu_ps(a->q.scale + (size_t)b * 16), &q);
    _mm512_mask_cvtepi32_storeu_epi8((int8_t *)a->y + (size_t)b * 16, gs_first16(padded - b * 16), out);
  }
}
