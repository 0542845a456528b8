/* What the AVX-512 VNNI micro-kernels share: target attribute, requantisation, stores of row quads.
 * Functions carry their target, so that the file compiles for baseline x86-64. */
#ifndef GS_X86_AVX512_H
#define GS_X86_AVX512_H
#include <immintrin.h>
#include <string.h>

#include "../../src/kernels.h"
#include "units.h"

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

/* Hides a constant from the compiler, which else takes a permutation apart into more of cheaper-looking ones: the depthwise
 * kernels ran 1.5 times as long. */
GS_INLINE __m512i gs_opaque512(__m512i v) {
  __asm__("" : "+v"(v));
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

/* Requantisation of whole quads (GS_TAME): products that fit 32 bits convert without bounds, and bounds that are integers commute
 * with rounding. Packing saturates, the clamp comes last, on bytes. Bounds before the conversion cost MobileNetV1 at 90% zeros 7%. */
typedef struct {
  __m512i zp16, lo8, hi8;
} gs_rq512q;

GS_INLINE gs_rq512q gs_rq512q_make(const gs_requant *q) {
  gs_rq512q r;
  r.zp16 = _mm512_set1_epi16((int16_t)q->zp);
  r.lo8 = _mm512_set1_epi8((int8_t)q->lo);
  r.hi8 = _mm512_set1_epi8((int8_t)q->hi);
  return r;
}

/* Sixteen sums of one row -> integers that packing may saturate. */
GS_INLINE __m512i gs_rq512q_int(__m512i acc, __m512 scale) {
  return _mm512_cvt_roundps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(acc), scale), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* Two of them -> 16-bit numbers with the zero point. */
GS_INLINE __m512i gs_rq512q_pack(__m512i i0, __m512i i1, const gs_rq512q *q) {
  return _mm512_adds_epi16(_mm512_packs_epi32(i0, i1), q->zp16);
}

GS_INLINE __m512i gs_rq512q_clamp(__m512i bytes, const gs_rq512q *q) {
  return _mm512_min_epi8(_mm512_max_epi8(bytes, q->lo8), q->hi8);
}

/* Requantised sums of four registers: byte 4*i+j of every 128-bit lane comes from dword j of register i. */
GS_INLINE __m512i gs_rq512q_bytes(const __m512i acc[4], const __m512 scale[4], const gs_rq512q *q) {
  __m512i low = gs_rq512q_pack(gs_rq512q_int(acc[0], scale[0]), gs_rq512q_int(acc[1], scale[1]), q);
  __m512i high = gs_rq512q_pack(gs_rq512q_int(acc[2], scale[2]), gs_rq512q_int(acc[3], scale[3]), q);
  return gs_rq512q_clamp(_mm512_packs_epi16(low, high), q);
}

/* Rows 0 and 1, rows 2 and 3 of sixteen pixels -> sixteen pixels of four lanes. */
GS_INLINE __m512i gs_rq512q_quad(__m512i low, __m512i high, const gs_rq512q *q) {
  const __m512i order = _mm512_set4_epi32(0x0f0b0703, 0x0e0a0602, 0x0d090501, 0x0c080400);
  return _mm512_shuffle_epi8(gs_rq512q_clamp(_mm512_packs_epi16(low, high), q), order);
}

/* Sums of sixteen pixels of four rows -> sixteen pixels of four lanes. */
GS_INLINE __m512i gs_quad512(__m512i r0, __m512i r1, __m512i r2, __m512i r3, const __m512 scale[4], const gs_rq512q *q) {
  const __m512i order = _mm512_set4_epi32(0x0f0b0703, 0x0e0a0602, 0x0d090501, 0x0c080400);
  const __m512i acc[4] = {r0, r1, r2, r3};
  return _mm512_shuffle_epi8(gs_rq512q_bytes(acc, scale, q), order);
}

/* The scales of four rows. */
GS_INLINE void gs_scales512(const float *from, __m512 scale[4]) {
  GS_UNROLL for (int r = 0; r < 4; r++) scale[r] = _mm512_set1_ps(from[r]);
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

/* Runs tile(a, block, pixel, vectors, ...) over the pixels of a call, 64 at a time, then what is left. */
#define GS_FOR_TILES_512(tile, ...)                                                  \
  for (uint32_t p = 0; p < a->npx;) {                                                \
    uint32_t v = (a->npx - p) / 16;                                                  \
    if (v >= 4) v = 4;                                                               \
    for (uint32_t b = a->block0; b < a->block1; b++) {                               \
      if (v == 4) tile(a, b, p, 4, __VA_ARGS__);                                                  \
      else if (v == 3) tile(a, b, p, 3, __VA_ARGS__);                                             \
      else if (v == 2) tile(a, b, p, 2, __VA_ARGS__);                                             \
      else tile(a, b, p, 1, __VA_ARGS__);                                                         \
    }                                                                                \
    p += v * 16;                                                                     \
  }
#endif
