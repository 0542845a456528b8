/* What the WASM SIMD128 micro-kernels share. int8 goes by 16 bits: i32x4.dot_i16x8_s of sign-extended values is exact. */
#ifndef GS_WASM_WASM_H
#define GS_WASM_WASM_H
#include <stdbool.h>
#include <string.h>
#include <wasm_simd128.h>

#include "../../src/kernels.h"

#define GS_INLINE static inline __attribute__((always_inline))
#pragma clang diagnostic ignored "-Wpass-failed" /* a build without optimisation unrolls nothing */
/* An inner loop in a function of its own: V8 unrolls what lies in nested loops, and its copies spill. */
#define GS_ALONE __attribute__((noinline))
#define GS_ROLLED _Pragma("clang loop unroll(disable)")
#define GS_UNROLL _Pragma("clang loop unroll(full)")

/* Keeps loads where they are written: LLVM gathers all loads of an unrolled step at its start, engines do not reorder, and
 * sixteen XMM registers of an x86 host run out: 1x4 products spent half of their time in spills. */
#define GS_HERE(v) __asm__ volatile("" : "+r"(v)::"memory")

typedef struct {
  v128_t lo, hi, zp;
} gs_rqw;

GS_INLINE gs_rqw gs_rqw_make(const gs_requant *q) {
  gs_rqw r;
  r.lo = wasm_f32x4_splat((float)(q->lo - q->zp));
  r.hi = wasm_f32x4_splat((float)(q->hi - q->zp));
  r.zp = wasm_i32x4_splat(q->zp - 0x4B400000);
  return r;
}

/* RQ of NUMERICS.md on 4 products; pmax(lo, v) is lo for NaN, as the rule wants. Adding 12582912 rounds to even and leaves
 * the integer in the low bits: converting with trunc_sat costs several instructions on x86. */
GS_INLINE v128_t gs_rqw_round(v128_t v, const gs_rqw *q) {
  v128_t t = wasm_f32x4_pmin(q->hi, wasm_f32x4_pmax(q->lo, v));
  return wasm_i32x4_add(wasm_f32x4_add(t, wasm_f32x4_const_splat(12582912.0f)), q->zp);
}

GS_INLINE v128_t gs_rqw_acc(v128_t acc, v128_t scale, const gs_rqw *q) {
  return gs_rqw_round(wasm_f32x4_mul(wasm_f32x4_convert_i32x4(acc), scale), q);
}

/* Four accumulators of one row -> sixteen bytes. */
GS_INLINE v128_t gs_bytesw(const v128_t acc[4], v128_t scale, const gs_rqw *q) {
  const v128_t low = wasm_i16x8_narrow_i32x4(gs_rqw_acc(acc[0], scale, q), gs_rqw_acc(acc[1], scale, q));
  return wasm_i8x16_narrow_i16x8(low, wasm_i16x8_narrow_i32x4(gs_rqw_acc(acc[2], scale, q), gs_rqw_acc(acc[3], scale, q)));
}

/* Requantisation of tame sums (GS_TAME: times their scale they fit 32 bits) where relaxed SIMD has a conversion that costs one
 * instruction: saturating packs do most of the clamping, and what is left is done on bytes. */
#if defined(__wasm_relaxed_simd__)
typedef struct {
  v128_t zp, lo, hi;
} gs_tame;

GS_INLINE gs_tame gs_tame_make(const gs_requant *q) {
  const gs_tame t = {wasm_i16x8_splat((int16_t)q->zp), wasm_i8x16_splat((int8_t)q->lo), wasm_i8x16_splat((int8_t)q->hi)};
  return t;
}

GS_INLINE v128_t gs_tame_round(v128_t acc, v128_t scale) {
  return wasm_i32x4_relaxed_trunc_f32x4(wasm_f32x4_nearest(wasm_f32x4_mul(wasm_f32x4_convert_i32x4(acc), scale)));
}

/* Four accumulators, each with its scale -> sixteen bytes. */
GS_INLINE v128_t gs_tame_bytes(const v128_t acc[4], const v128_t scale[4], const gs_tame *q) {
  v128_t low = wasm_i16x8_narrow_i32x4(gs_tame_round(acc[0], scale[0]), gs_tame_round(acc[1], scale[1]));
  v128_t high = wasm_i16x8_narrow_i32x4(gs_tame_round(acc[2], scale[2]), gs_tame_round(acc[3], scale[3]));
  low = wasm_i16x8_add_sat(low, q->zp);
  high = wasm_i16x8_add_sat(high, q->zp);
  return wasm_i8x16_min(wasm_i8x16_max(wasm_i8x16_narrow_i16x8(low, high), q->lo), q->hi);
}
#endif

/* Sixteen pixels of four rows, a row at a time -> sixteen pixels of four lanes. */
GS_INLINE void gs_lanesw(int8_t *y, const int8_t *r0, const int8_t *r1, const int8_t *r2, const int8_t *r3) {
#define GS_LOW8(a, b) wasm_i8x16_shuffle(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define GS_HIGH8(a, b) wasm_i8x16_shuffle(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#define GS_LOW16(a, b) wasm_i16x8_shuffle(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define GS_HIGH16(a, b) wasm_i16x8_shuffle(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
  const v128_t v0 = wasm_v128_load(r0), v1 = wasm_v128_load(r1), v2 = wasm_v128_load(r2), v3 = wasm_v128_load(r3);
  const v128_t low01 = GS_LOW8(v0, v1), high01 = GS_HIGH8(v0, v1), low23 = GS_LOW8(v2, v3), high23 = GS_HIGH8(v2, v3);
  wasm_v128_store(y, GS_LOW16(low01, low23));
  wasm_v128_store(y + 16, GS_HIGH16(low01, low23));
  wasm_v128_store(y + 32, GS_LOW16(high01, high23));
  wasm_v128_store(y + 48, GS_HIGH16(high01, high23));
}

/* All rows of a tile by functions that make one row of 32 or of 16 pixels. */
typedef void gs_one_row(const gs_mm_args *a, const gs_rqw *q, size_t r, uint32_t pixel, int8_t *out);
GS_INLINE void gs_rows_alone(const gs_mm_args *a, gs_one_row *row32, gs_one_row *row16) {
  const gs_rqw q = gs_rqw_make(&a->q);
  int8_t out[4][32];
  for (uint32_t p = 0; p < a->npx;) {
    const uint32_t n = a->npx - p < 32 ? 16 : 32;
    for (uint32_t b = a->block0; b < a->block1; b++) {
      for (uint32_t r = 0; r < 4; r++) {
        if (n == 32) row32(a, &q, (size_t)b * 4 + r, p, out[r]);
        else row16(a, &q, (size_t)b * 4 + r, p, out[r]);
      }
      int8_t *y = (int8_t *)a->y + (size_t)b * a->y_stride + (size_t)p * 4;
      for (uint32_t i = 0; i < n; i += 16) gs_lanesw(y + 4 * i, out[0] + i, out[1] + i, out[2] + i, out[3] + i);
    }
    p += n;
  }
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

/* Requantisation and store of eight pixels of four rows. */
GS_INLINE void gs_store_rowsw(const gs_mm_args *a, const gs_rqw *q, uint32_t block, uint32_t pixel, v128_t acc[4][2]) {
  const float *scale = a->q.scale + (size_t)block * 4;
  int8_t *y = (int8_t *)a->y + (size_t)block * a->y_stride + (size_t)pixel * 4;
  GS_UNROLL for (int r = 0; r < 4; r++) {
    const v128_t s = wasm_v128_load32_splat(scale + r);
    acc[r][0] = gs_rqw_acc(acc[r][0], s, q);
    acc[r][1] = gs_rqw_acc(acc[r][1], s, q);
  }
  GS_UNROLL for (int v = 0; v < 2; v++) wasm_v128_store(y + 16 * v, gs_quadw(acc[0][v], acc[1][v], acc[2][v], acc[3][v]));
}
/* The first `left` of four pixels, all for four and more. */
GS_INLINE void gs_store_pixelsw(char *y, uint32_t left, v128_t v) {
  if (left >= 4) {
    wasm_v128_store(y, v);
    return;
  }
  if (left & 2) wasm_v128_store64_lane(y, v, 0);
  if (left == 3) wasm_v128_store32_lane(y + 8, v, 2);
  if (left == 1) wasm_v128_store32_lane(y, v, 0);
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
