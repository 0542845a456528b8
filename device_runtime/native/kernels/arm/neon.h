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

/* RQ of NUMERICS.md. No product here is NaN: scales are finite, and 0 times a finite scale is 0. On aarch64 the conversion
 * rounds to even and saturates, so that clamping may come last, on sixteen bytes at once: rounding keeps order. armv7 has no
 * such conversion and clamps first. */
#if defined(__aarch64__)
typedef struct {
  int16x8_t zp;
  int8x16_t lo, hi;
  uint8x16_t most, turn; /* relu: hi + 128, 128 */
  int relu;              /* zp and lo are -128, as behind every ReLU: then the clamp below is that of unsigned bytes */
} gs_rqn;
#else
typedef struct {
  int16x8_t zp;
  float32x4_t lo, hi;
  int relu; /* always 0 */
} gs_rqn;
#endif

GS_INLINE gs_rqn gs_rqn_make(const gs_requant *q) {
  gs_rqn r;
  r.zp = vdupq_n_s16((int16_t)q->zp);
#if defined(__aarch64__)
  r.lo = vdupq_n_s8((int8_t)q->lo);
  r.hi = vdupq_n_s8((int8_t)q->hi);
  r.most = vdupq_n_u8((uint8_t)(q->hi + 128));
  r.turn = vdupq_n_u8(0x80);
  r.relu = q->zp == -128 && q->lo == -128;
#else
  r.relu = 0;
  r.lo = vdupq_n_f32((float)(q->lo - q->zp));
  r.hi = vdupq_n_f32((float)(q->hi - q->zp));
#endif
  return r;
}

/* Eight products rounded and moved by the zero point. */
GS_INLINE int16x8_t gs_rqn_words(float32x4_t v0, float32x4_t v1, const gs_rqn *q) {
#if defined(__aarch64__)
  return vqaddq_s16(vqmovn_high_s32(vqmovn_s32(vcvtnq_s32_f32(v0)), vcvtnq_s32_f32(v1)), q->zp);
#else
  const float32x4_t magic = vdupq_n_f32(12582912.0f); /* 1.5 * 2^23: adding it leaves the integer in the low half */
  const float32x4_t t0 = vaddq_f32(vminq_f32(vmaxq_f32(v0, q->lo), q->hi), magic);
  const float32x4_t t1 = vaddq_f32(vminq_f32(vmaxq_f32(v1, q->lo), q->hi), magic);
  return vaddq_s16(vcombine_s16(vmovn_s32(vreinterpretq_s32_f32(t0)), vmovn_s32(vreinterpretq_s32_f32(t1))), q->zp);
#endif
}

/* Sixteen of them as bytes. */
GS_INLINE int8x16_t gs_rqn_bytes(int16x8_t w0, int16x8_t w1, const gs_rqn *q) {
#if defined(__aarch64__)
  return vminq_s8(vmaxq_s8(vqmovn_high_s16(vqmovn_s16(w0), w1), q->lo), q->hi);
#else
  (void)q;
  return vcombine_s8(vmovn_s16(w0), vmovn_s16(w1));
#endif
}

/* Eight of them. */
GS_INLINE int8x8_t gs_rqn_half(int16x8_t w, const gs_rqn *q) {
#if defined(__aarch64__)
  return vmin_s8(vmax_s8(vqmovn_s16(w), vget_low_s8(q->lo)), vget_low_s8(q->hi));
#else
  (void)q;
  return vmovn_s16(w);
#endif
}

GS_INLINE float32x4_t gs_scaledn(int32x4_t acc, float32x4_t scale) { return vmulq_f32(vcvtq_f32_s32(acc), scale); }

/* Sixteen sums of one scale (or of four lanes with theirs) to bytes; relu: q->relu, known to the compiler. */
GS_INLINE int8x16_t gs_rqn_16(int32x4_t a0, int32x4_t a1, int32x4_t a2, int32x4_t a3, float32x4_t scale, const gs_rqn *q, const int relu) {
  const float32x4_t v0 = gs_scaledn(a0, scale), v1 = gs_scaledn(a1, scale), v2 = gs_scaledn(a2, scale), v3 = gs_scaledn(a3, scale);
#if defined(__aarch64__)
  if (relu) {
    const int16x8_t w0 = vqmovn_high_s32(vqmovn_s32(vcvtnq_s32_f32(v0)), vcvtnq_s32_f32(v1));
    const int16x8_t w1 = vqmovn_high_s32(vqmovn_s32(vcvtnq_s32_f32(v2)), vcvtnq_s32_f32(v3));
    return vreinterpretq_s8_u8(veorq_u8(vminq_u8(vqmovun_high_s16(vqmovun_s16(w0), w1), q->most), q->turn));
  }
#endif
  (void)relu;
  return gs_rqn_bytes(gs_rqn_words(v0, v1, q), gs_rqn_words(v2, v3, q), q);
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
  const float32x4_t v = gs_scaledn(acc, vld1q_f32(scale));
  const uint32_t out = vget_lane_u32(vreinterpret_u32_s8(gs_rqn_half(gs_rqn_words(v, v, q), q)), 0);
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
