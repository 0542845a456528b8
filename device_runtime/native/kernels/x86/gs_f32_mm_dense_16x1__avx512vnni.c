/* Dense f32 times one vector: sixteen rows a register, four columns in flight. */
#include "avx512.h"

GS_TARGET void gs_f32_mm_dense_16x1__avx512vnni(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  const float *x = a->x;
  for (uint32_t b = a->block0; b < a->block1; b++) {
    const float *val = (const float *)w->val + (size_t)b * w->groups * 16;
    __m512 acc[4];
    acc[0] = _mm512_loadu_ps((const float *)w->bias + (size_t)b * 16);
    acc[1] = acc[2] = acc[3] = _mm512_setzero_ps();
    uint32_t k = 0;
    for (; k + 4 <= w->groups; k += 4) {
      GS_UNROLL for (int i = 0; i < 4; i++)
        acc[i] = _mm512_fmadd_ps(_mm512_set1_ps(x[k + i]), _mm512_loadu_ps(val + (size_t)(k + i) * 16), acc[i]);
    }
    for (; k < w->groups; k++)
      acc[0] = _mm512_fmadd_ps(_mm512_set1_ps(x[k]), _mm512_loadu_ps(val + (size_t)k * 16), acc[0]);
    __m512 sum = _mm512_add_ps(_mm512_add_ps(acc[0], acc[1]), _mm512_add_ps(acc[2], acc[3]));
    sum = _mm512_min_ps(_mm512_max_ps(sum, _mm512_set1_ps(a->lo)), _mm512_set1_ps(a->hi));
    _mm512_mask_storeu_ps((float *)a->y + (size_t)b * 16, gs_first16(w->rows - b * 16), sum);
  }
}
