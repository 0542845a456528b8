/* What the NEON micro-kernels share, on aarch64 and armv7 alike.
 * Without a dot product, int8 goes by smull + smlal + sadalp: weights lie in -127..127, so two products of one lane fit
 * int16 (2 * 127 * 128 = 32512), and pairs of lanes are then added into int32. */
#ifndef GS_ARM_NEON_H
#define GS_ARM_NEON_H
#include <arm_neon.h>
#include <string.h>

#include "../../src/kernels.h"

#define GS_INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#pragma clang diagnostic ignored "-Wpass-failed" /* a build without optimisation unrolls nothing */
#define GS_UNROLL _Pragma("clang loop unroll(full)")
#else
#define GS_UNROLL _Pragma("GCC unroll 16")
#endif

#if defined(__aarch64__)
#define GS_VECTORS 2 /* of four pixels and four rows: 16 of 32 registers */
#else
#define GS_VECTORS 1 /* 8 of 16 registers */
#endif

typedef struct {
  float32x4_t lo, hi;
  int32x4_t zp;
} gs_rqn;

GS_INLINE gs_rqn gs_rqn_make(const gs_requant *q) {
  gs_rqn r;
  r.lo = vdupq_n_f32((float)(q->lo - q->zp));
  r.hi = vdupq_n_f32((float)(q->hi - q->zp));
  r.zp = vdupq_n_s32(q->zp);
  return r;
}

/* RQ of NUMERICS.md on 4 products; a comparison, not vmaxq, so that NaN gives the lower bound. */
GS_INLINE int32x4_t gs_rqn_round(float32x4_t v, const gs_rqn *q) {
  float32x4_t t = vminq_f32(vbslq_f32(vcgtq_f32(v, q->lo), v, q->lo), q->hi);
#if defined(__aarch64__)
  return vaddq_s32(vcvtnq_s32_f32(t), q->zp);
#else
  const float32x4_t magic = vdupq_n_f32(12582912.0f); /* 1.5 * 2^23: adding it rounds to an integer */
  return vaddq_s32(vcvtq_s32_f32(vsubq_f32(vaddq_f32(t, magic), magic)), q->zp);
#endif
}

GS_INLINE int32x4_t gs_rqn_acc(int32x4_t acc, float32x4_t scale, const gs_rqn *q) {
  return gs_rqn_round(vmulq_f32(vcvtq_f32_s32(acc), scale), q);
}

/* Four pixels of four rows (int32, in range) -> four pixels of four lanes. */
GS_INLINE int8x16_t gs_quadn(int32x4_t r0, int32x4_t r1, int32x4_t r2, int32x4_t r3) {
  return vreinterpretq_s8_s32(vsliq_n_s32(vsliq_n_s32(vsliq_n_s32(r0, r1, 8), r2, 16), r3, 24));
}

/* Pair sums of elements 0-1 and 2-3 -> sums of elements 0-3. */
GS_INLINE int32x4_t gs_pairsn(int32x4_t a, int32x4_t b) {
#if defined(__aarch64__)
  return vpaddq_s32(a, b);
#else
  return vcombine_s32(vpadd_s32(vget_low_s32(a), vget_high_s32(a)), vpadd_s32(vget_low_s32(b), vget_high_s32(b)));
#endif
}

/* Four bytes, twice. */
GS_INLINE int8x8_t gs_dup4(const void *p) {
  uint32_t v;
  memcpy(&v, p, 4);
  return vreinterpret_s8_u32(vdup_n_u32(v));
}

/* Four requantised rows of one pixel -> four bytes. */
GS_INLINE void gs_store_quadn_1(int8_t *y, int32x4_t acc, const float *scale, const gs_rqn *q) {
  int16x4_t words = vmovn_s32(gs_rqn_acc(acc, vld1q_f32(scale), q));
  uint32_t out = vget_lane_u32(vreinterpret_u32_s8(vmovn_s16(vcombine_s16(words, words))), 0);
  memcpy(y, &out, 4);
}

/* The first n (at most 4) pixels of four lanes. */
GS_INLINE void gs_store_pixelsn(void *y, int8x16_t v, uint32_t n) {
  if (n >= 4) {
    vst1q_s8(y, v);
    return;
  }
  int8_t all[16];
  vst1q_s8(all, v);
  memcpy(y, all, (size_t)n * 4);
}

/* Four columns of four pixels, byte lanes off % 4 of their groups, interleaved to four pixels of four lanes. */
GS_INLINE int8x16_t gs_gathern(const int8_t *x, const uint32_t *off) {
  uint32x4_t v[4];
  GS_UNROLL for (int j = 0; j < 4; j++) {
    uint32x4_t pixels = vreinterpretq_u32_s8(vld1q_s8(x + (off[j] & ~3u)));
    v[j] = vshlq_u32(pixels, vdupq_n_s32(-8 * (int32_t)(off[j] & 3u)));
  }
  return vreinterpretq_s8_u32(vsliq_n_u32(vsliq_n_u32(vsliq_n_u32(v[0], v[1], 8), v[2], 16), v[3], 24));
}

/* Four bytes of single columns of one pixel. */
GS_INLINE uint32_t gs_gathern_1(const uint8_t *x, const uint32_t *off) {
  return (uint32_t)x[off[0]] | (uint32_t)x[off[1]] << 8 | (uint32_t)x[off[2]] << 16 | (uint32_t)x[off[3]] << 24;
}

GS_INLINE float gs_load_f32(const void *p) {
  float v;
  memcpy(&v, p, 4);
  return v;
}
#endif
