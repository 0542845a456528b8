/* What the WASM SIMD128 micro-kernels share. int8 goes by 16 bits: i32x4.dot_i16x8_s of sign-extended values is exact. */
#ifndef GS_WASM_WASM_H
#define GS_WASM_WASM_H
#include <string.h>
#include <wasm_simd128.h>

#include "../../src/kernels.h"

#define GS_INLINE static inline __attribute__((always_inline))
#pragma clang diagnostic ignored "-Wpass-failed" /* a build without optimisation unrolls nothing */
#define GS_UNROLL _Pragma("clang loop unroll(full)")

typedef struct {
  v128_t lo, hi, zp;
} gs_rqw;

GS_INLINE gs_rqw gs_rqw_make(const gs_requant *q) {
  gs_rqw r;
  r.lo = wasm_f32x4_splat((float)(q->lo - q->zp));
  r.hi = wasm_f32x4_splat((float)(q->hi - q->zp));
  r.zp = wasm_i32x4_splat(q->zp);
  return r;
}

/* RQ of NUMERICS.md on 4 products; pmax(lo, v) is lo for NaN, as the rule wants. */
GS_INLINE v128_t gs_rqw_round(v128_t v, const gs_rqw *q) {
  v128_t t = wasm_f32x4_pmin(q->hi, wasm_f32x4_pmax(q->lo, v));
  return wasm_i32x4_add(wasm_i32x4_trunc_sat_f32x4(wasm_f32x4_nearest(t)), q->zp);
}

GS_INLINE v128_t gs_rqw_acc(v128_t acc, v128_t scale, const gs_rqw *q) {
  return gs_rqw_round(wasm_f32x4_mul(wasm_f32x4_convert_i32x4(acc), scale), q);
}

/* Pair sums of elements 0-1 and 2-3 -> sums of elements 0-3. */
GS_INLINE v128_t gs_pairsw(v128_t a, v128_t b) {
  return wasm_i32x4_add(wasm_i32x4_shuffle(a, b, 0, 2, 4, 6), wasm_i32x4_shuffle(a, b, 1, 3, 5, 7));
}

/* Four pixels of four rows (int32, in range) -> four pixels of four lanes. */
GS_INLINE v128_t gs_quadw(v128_t r0, v128_t r1, v128_t r2, v128_t r3) {
  v128_t b = wasm_i8x16_narrow_i16x8(wasm_i16x8_narrow_i32x4(r0, r1), wasm_i16x8_narrow_i32x4(r2, r3));
  return wasm_i8x16_shuffle(b, b, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
}

/* Four requantised int32 -> four bytes at y. */
GS_INLINE void gs_store_bytesw(void *y, v128_t v) {
  v = wasm_i16x8_narrow_i32x4(v, v);
  wasm_v128_store32_lane(y, wasm_i8x16_narrow_i16x8(v, v), 0);
}

/* Four bytes -> four int16, twice. */
GS_INLINE v128_t gs_dup4w(const void *p) { return wasm_i16x8_extend_low_i8x16(wasm_v128_load32_splat(p)); }

/* Four columns of four pixels, byte lanes off % 4 of their groups, interleaved to four pixels of four lanes. */
GS_INLINE v128_t gs_gatherw(const int8_t *x, const uint32_t *off) {
  const v128_t byte = wasm_i32x4_const_splat(0xff);
  v128_t v[4];
  GS_UNROLL for (int j = 0; j < 4; j++)
    v[j] = wasm_v128_and(wasm_u32x4_shr(wasm_v128_load(x + (off[j] & ~3u)), 8 * (off[j] & 3u)), byte);
  return wasm_v128_or(wasm_v128_or(v[0], wasm_i32x4_shl(v[1], 8)), wasm_v128_or(wasm_i32x4_shl(v[2], 16), wasm_i32x4_shl(v[3], 24)));
}

GS_INLINE float gs_load_f32(const void *p) {
  float v;
  memcpy(&v, p, 4);
  return v;
}
#endif
