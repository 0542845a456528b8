/* Depthwise int8 on AVX-512 VNNI: up to four taps of a kernel row meet in one vpdpbusd after two shuffles. vpermd puts pixels
 * p..p+3 in the 128-bit lane of output pixel p, vpshufb turns their 4x4 bytes. Sixteen output pixels are four quads. */
#ifndef GS_X86_AVX512_DW_H
#define GS_X86_AVX512_DW_H
#include "avx512.h"
#include "dw_dot.h"

typedef struct {
  __m512i pad, shift, turn, order, flip;
  __m512 scale;
  __m512i bias;
  gs_rq512q q;
} gs_dw512;

GS_INLINE gs_dw512 gs_dw512_make(const gs_dw_args *a) {
  const gs_dw_dot_weights *w = a->packed;
  gs_dw512 k;
  k.pad = _mm512_set1_epi32((int32_t)a->pad);
  k.shift = _mm512_set1_epi8((char)0x80);
  k.turn = gs_opaque512(_mm512_set4_epi32(0x0f0b0703, 0x0e0a0602, 0x0d090501, 0x0c080400));
  k.order = gs_opaque512(_mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0));
  k.flip = _mm512_set1_epi32((int32_t)a->flip);
  k.scale = _mm512_broadcast_f32x4(_mm_loadu_ps(w->scale));
  k.bias = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)w->bias));
  k.q = gs_rq512q_make(&a->q);
  return k;
}

GS_INLINE __m512i gs_dw512_w(const gs_dw_args *a, int entry) {
  const gs_dw_dot_weights *w = a->packed;
  return _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)w->w[entry]));
}

/* Indices for vpermd: lane j gets words first + j*stride + (0..3). */
GS_INLINE __m512i gs_dw512_pick(const int first, const int stride) {
  const int f = first, s = stride;
  return gs_opaque512(_mm512_set_epi32(f + 3 * s + 3, f + 3 * s + 2, f + 3 * s + 1, f + 3 * s, f + 2 * s + 3, f + 2 * s + 2,
                                       f + 2 * s + 1, f + 2 * s, f + s + 3, f + s + 2, f + s + 1, f + s, f + 3, f + 2, f + 1, f));
}
GS_INLINE __m512i gs_dw512_taps(__m512i v, __m512i pick, const gs_dw512 *k) {
  return _mm512_shuffle_epi8(_mm512_permutexvar_epi32(pick, v), k->turn);
}

/* Which of the words first..first + 15 of an input row lie inside it. */
GS_INLINE __mmask16 gs_dw512_inside(int64_t first, uint32_t width) {
  const int64_t skip = first < 0 ? -first : 0, have = (int64_t)width - first;
  if (skip > 15 || have <= 0) return 0;
  return (__mmask16)((have >= 16 ? 0xffffu : (1u << have) - 1) & (0xffffu << skip));
}

/* Words of an input row, read as x + 128; those outside are padding and not touched. */
GS_INLINE __m512i gs_dw512_load(const int8_t *x, __mmask16 inside, const gs_dw512 *k) {
  return _mm512_xor_si512(_mm512_mask_loadu_epi32(k->pad, inside, x), k->shift);
}

/* Requantises up to four quads of pixels (four lanes each) to sixteen pixels. */
GS_INLINE __m512i gs_dw512_out(const __m512i acc[4], const int nq, const gs_dw512 *k) {
  const __m512 scale[4] = {k->scale, k->scale, k->scale, k->scale};
  __m512i r[4];
  GS_UNROLL for (int i = 0; i < 4; i++) r[i] = i < nq ? acc[i] : _mm512_setzero_si512();
  return _mm512_xor_si512(_mm512_permutexvar_epi32(k->order, gs_rq512q_bytes(r, scale, &k->q)), k->flip);
}

/* Runs strip(a, first output column, &k, quads) over the columns, sixteen at a time. */
#define GS_FOR_STRIPS_512(strip)                       \
  const gs_dw512 k = gs_dw512_make(a);                 \
  for (uint32_t ox = 0; ox < a->ow; ox += 16) {        \
    const uint32_t left = a->ow - ox;                  \
    if (left > 12) strip(a, ox, &k, 4);                \
    else if (left > 8) strip(a, ox, &k, 3);            \
    else if (left > 4) strip(a, ox, &k, 2);            \
    else strip(a, ox, &k, 1);                          \
  }
#endif
