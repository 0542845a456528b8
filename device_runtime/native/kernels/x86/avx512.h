/* What the AVX-512 VNNI micro-kernels share: target attribute, requantisation, stores of row quads.
 * Functions carry their target, so that the file compiles for baseline x86-64. */
#ifndef GS_X86_AVX512_H
#define GS_X86_AVX512_H
#include <immintrin.h>
#include <string.h>

#include "../../src/kernels.h"

#define GS_TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")))
#define GS_INLINE static inline __attribute__((always_inline)) GS_TARGET
#if defined(__clang__)
#pragma clang diagnostic ignored "-Wpass-failed" /* a build without optimisation unrolls nothing */
#define GS_UNROLL _Pragma("clang loop unroll(full)")
#else
#define GS_UNROLL _Pragma("GCC unroll 16")
#endif

GS_INLINE int32_t gs_load_i32(const void *p) {
  int32_t v;
  memcpy(&v, p, 4);
  return v;
}

typedef struct {
  __m512 lo, hi;
  __m512i zp;
} gs_rq512;

GS_INLINE gs_rq512 gs_rq512_make(const gs_requant *q) {
  gs_rq512 r;
  r.lo = _mm512_set1_ps((float)(q->lo - q->zp));
  r.hi = _mm512_set1_ps((float)(q->hi - q->zp));
  r.zp = _mm512_set1_epi32(q->zp);
  return r;
}

/* RQ of NUMERICS.md on 16 products; max returns its second operand for NaN, as the rule wants. */
GS_INLINE __m512i gs_rq512_round(__m512 v, const gs_rq512 *q) {
  __m512 t = _mm512_min_ps(_mm512_max_ps(v, q->lo), q->hi);
  return _mm512_add_epi32(_mm512_cvt_roundps_epi32(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC), q->zp);
}

GS_INLINE __m512i gs_rq512_acc(__m512i acc, __m512 scale, const gs_rq512 *q) {
  return gs_rq512_round(_mm512_mul_ps(_mm512_cvtepi32_ps(acc), scale), q);
}

/* Sixteen pixels of four rows (int32, in range) -> sixteen pixels of four lanes. */
GS_INLINE __m512i gs_quad512(__m512i r0, __m512i r1, __m512i r2, __m512i r3) {
  const __m512i order = _mm512_set4_epi32(0x0f0b0703, 0x0e0a0602, 0x0d090501, 0x0c080400);
  __m512i b = _mm512_packs_epi16(_mm512_packs_epi32(r0, r1), _mm512_packs_epi32(r2, r3));
  return _mm512_shuffle_epi8(b, order);
}

/* One int32 sum per row of a quad -> its four bytes at y. */
GS_INLINE void gs_store_quad_1(int8_t *y, __m128i acc, __m128 scale, const gs_requant *q) {
  __m128 t = _mm_mul_ps(_mm_cvtepi32_ps(acc), scale);
  t = _mm_min_ps(_mm_max_ps(t, _mm_set1_ps((float)(q->lo - q->zp))), _mm_set1_ps((float)(q->hi - q->zp)));
  __m128i v = _mm_add_epi32(_mm_cvtps_epi32(t), _mm_set1_epi32(q->zp));
  v = _mm_packs_epi16(_mm_packs_epi32(v, v), v);
  int32_t out = _mm_cvtsi128_si32(v);
  memcpy(y, &out, 4);
}

/* Which of n elements (16 at most) exist. */
GS_INLINE __mmask16 gs_first16(size_t n) { return n >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << n) - 1); }

/* Runs tile(a, block, pixel, vectors) over the pixels of a call, 64 at a time, then what is left. */
#define GS_FOR_TILES_512(tile)                                                       \
  for (uint32_t p = 0; p < a->npx;) {                                                \
    uint32_t v = (a->npx - p) / 16;                                                  \
    if (v >= 4) v = 4;                                                               \
    for (uint32_t b = a->block0; b < a->block1; b++) {                               \
      if (v == 4) tile(a, b, p, 4);                                                  \
      else if (v == 3) tile(a, b, p, 3);                                             \
      else if (v == 2) tile(a, b, p, 2);                                             \
      else tile(a, b, p, 1);                                                         \
    }                                                                                \
    p += v * 16;                                                                     \
  }
#endif
