/* What the AVX2 micro-kernels share. int8 goes by 16 bits: vpmaddwd of sign-extended values is exact, where vpmaddubsw
 * would saturate. */
#ifndef GS_X86_AVX2_H
#define GS_X86_AVX2_H
#include <immintrin.h>
#include <string.h>

#include "../../src/kernels.h"
#include "units.h"

#if !defined(GS_TARGET) /* a set above AVX2 brings its own */
#define GS_TARGET __attribute__((target("avx2,fma")))
#endif
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
GS_INLINE int64_t gs_load_i64(const void *p) {
  int64_t v;
  memcpy(&v, p, 8);
  return v;
}

/* Sixteen int8 -> sixteen int16. */
GS_INLINE __m256i gs_widen16(const void *p) { return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)p)); }

typedef struct {
  __m256 lo, hi;
  __m256i zp;
} gs_rq256;

GS_INLINE gs_rq256 gs_rq256_make(const gs_requant *q) {
  gs_rq256 r;
  r.lo = _mm256_set1_ps((float)(q->lo - q->zp));
  r.hi = _mm256_set1_ps((float)(q->hi - q->zp));
  r.zp = _mm256_set1_epi32(q->zp);
  return r;
}

/* RQ of NUMERICS.md on 8 products; max returns its second operand for NaN, as the rule wants. */
GS_INLINE __m256i gs_rq256_round(__m256 v, const gs_rq256 *q) {
  __m256 t = _mm256_min_ps(_mm256_max_ps(v, q->lo), q->hi);
  return _mm256_add_epi32(_mm256_cvtps_epi32(t), q->zp);
}

GS_INLINE __m256i gs_rq256_acc(__m256i acc, __m256 scale, const gs_rq256 *q) {
  return gs_rq256_round(_mm256_mul_ps(_mm256_cvtepi32_ps(acc), scale), q);
}

/* Pair sums of pixels 0-3 and 4-7 -> sums of pixels 0-7. */
GS_INLINE __m256i gs_pairs256(__m256i a, __m256i b) { return _mm256_permute4x64_epi64(_mm256_hadd_epi32(a, b), 0xd8); }

/* Eight pixels of four rows (int32, in range) -> eight pixels of four lanes. */
GS_INLINE __m256i gs_quad256(__m256i r0, __m256i r1, __m256i r2, __m256i r3) {
  const __m256i order = _mm256_setr_epi32(0x0c080400, 0x0d090501, 0x0e0a0602, 0x0f0b0703, 0x0c080400, 0x0d090501, 0x0e0a0602,
                                          0x0f0b0703);
  __m256i b = _mm256_packs_epi16(_mm256_packs_epi32(r0, r1), _mm256_packs_epi32(r2, r3));
  return _mm256_shuffle_epi8(b, order);
}

/* Eight int32 in range -> eight bytes. */
GS_INLINE int64_t gs_bytes256(__m256i v) {
  __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  return _mm_cvtsi128_si64(_mm_packs_epi16(words, words));
}

/* Four int32 sums -> four bytes. */
GS_INLINE int32_t gs_bytes4(__m128i acc, __m128 scale, const gs_requant *q) {
  __m128 t = _mm_mul_ps(_mm_cvtepi32_ps(acc), scale);
  t = _mm_min_ps(_mm_max_ps(t, _mm_set1_ps((float)(q->lo - q->zp))), _mm_set1_ps((float)(q->hi - q->zp)));
  __m128i v = _mm_add_epi32(_mm_cvtps_epi32(t), _mm_set1_epi32(q->zp));
  return _mm_cvtsi128_si32(_mm_packs_epi16(_mm_packs_epi32(v, v), v));
}

/* Mask of the first n of four (or eight) dwords. */
GS_INLINE __m128i gs_first4(uint32_t n) {
  return _mm_cmpgt_epi32(_mm_set1_epi32((int32_t)(n < 4 ? n : 4)), _mm_setr_epi32(0, 1, 2, 3));
}
GS_INLINE __m256i gs_first8(uint32_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32((int32_t)(n < 8 ? n : 8)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* Lanes of eight columns from first on that lie in [0, width). */
GS_INLINE __m256i gs_columns256(int64_t first, int64_t width) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const int64_t low = first < -8 ? 8 : -first, high = width - first > 8 ? 8 : width - first < 0 ? 0 : width - first;
  return _mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32((int32_t)(low < 0 ? 0 : low)), lane),
                             _mm256_cmpgt_epi32(_mm256_set1_epi32((int32_t)high), lane));
}
#endif
