/* Unstructured sparse f32 times one vector: sixteen entries of a row gathered at once. */
#include "avx512.h"

GS_TARGET void gs_f32_mm_1x4_4x1__avx512vnni(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  const uint32_t end = a->block1 * 4 < w->rows ? a->block1 * 4 : w->rows;
  for (uint32_t row = a->block0 * 4; row < end; row++) {
    const uint32_t last = w->start[row + 1];
    __m512 acc = _mm512_setzero_ps();
    for (uint32_t e = w->start[row]; e < last; e += 16) {
      __mmask16 keep = gs_first16(last - e);
      __m512i off = _mm512_maskz_loadu_epi32(keep, w->off + e);
      __m512 xv = _mm512_mask_i32gather_ps(_mm512_setzero_ps(), keep, off, a->x, 1);
      acc = _mm512_fmadd_ps(xv, _mm512_maskz_loadu_ps(keep, (const float *)w->val + e), acc);
    }
    float sum = _mm512_reduce_add_ps(acc) + ((const float *)w->bias)[row];
    sum = sum > a->lo ? sum : a->lo;
    ((float *)a->y)[row] = sum < a->hi ? sum : a->hi;
  }
}
