/* Depthwise int8 3x3 on AVX-512 VNNI: weights as dot-product operands, tap shuffles, output of 16 pixels. */
#ifndef GS_X86_AVX512_DW_H
#define GS_X86_AVX512_DW_H
#include "avx512.h"

typedef struct {
  __m512i w[3];  /* per kernel row: lane l holds (w[0][l], w[1][l], w[2][l], 0) */
  __m512i bias;  /* with 128 * sum(w) taken off, for x is read as x + 128 */
  __m512i shift; /* 0x80 in every byte */
  __m512 scale;
  gs_rq512q q;
} gs_dw512;

void gs_s8_dw_any__avx512vnni(const gs_dw_args *a);

/* False when a weight does not fit int8. */
GS_INLINE int gs_dw512_make(const gs_dw_args *a, gs_dw512 *k) {
  const int16_t *w = a->w;
  int32_t bias[4];
  for (int l = 0; l < 4; l++) {
    int32_t sum = 0;
    for (int t = 0; t < 9; t++) {
      if (w[t * 4 + l] < -128 || w[t * 4 + l] > 127) return 0;
      sum += w[t * 4 + l];
    }
    bias[l] = ((const int32_t *)a->bias)[l] - 128 * sum;
  }
  for (int ky = 0; ky < 3; ky++) {
    int8_t row[16] = {0};
    for (int t = 0; t < 3; t++)
      for (int l = 0; l < 4; l++) row[l * 4 + t] = (int8_t)w[(ky * 3 + t) * 4 + l];
    k->w[ky] = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)row));
  }
  k->bias = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)bias));
  k->shift = _mm512_set1_epi8((char)0x80);
  k->scale = _mm512_broadcast_f32x4(_mm_loadu_ps(a->q.scale));
  k->q = gs_rq512q_make(&a->q);
  return 1;
}

/* Four output pixels from sixteen input pixels: lane j gets pixels first + j*stride + (0..3), then byte t of dword l is
 * channel lane l of tap t. */
GS_INLINE __m512i gs_dw512_taps(__m512i v, const int first, const int stride) {
  const __m512i turn = _mm512_set4_epi32(0x0f0b0703, 0x0e0a0602, 0x0d090501, 0x0c080400);
  const int f = first, s = stride;
  const __m512i pick =
      _mm512_set_epi32(f + 3 * s + 3, f + 3 * s + 2, f + 3 * s + 1, f + 3 * s, f + 2 * s + 3, f + 2 * s + 2, f + 2 * s + 1,
                       f + 2 * s, f + s + 3, f + s + 2, f + s + 1, f + s, f + 3, f + 2, f + 1, f);
  return _mm512_shuffle_epi8(_mm512_permutexvar_epi32(pick, v), turn);
}

/* Requantises up to four quads of pixels (four lanes each) to sixteen pixels. */
GS_INLINE __m512i gs_dw512_out(const __m512i acc[4], const int nq, const gs_dw512 *k) {
  const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
  const __m512 scale[4] = {k->scale, k->scale, k->scale, k->scale};
  __m512i r[4];
  GS_UNROLL for (int i = 0; i < 4; i++) r[i] = i < nq ? acc[i] : _mm512_setzero_si512();
  return _mm512_permutexvar_epi32(order, gs_rq512q_bytes(r, scale, &k->q));
}
#endif
