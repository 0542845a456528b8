/* int8 matrix products by smull, smlal, sadalp: start, step and end of four rows. Accumulators hold two pixels of two half
 * sums each: acc[2*GS_VECTORS*row + i] holds pixels 2i and 2i + 1. */
#ifndef GS_ARM_NEON_MM_H
#define GS_ARM_NEON_MM_H
#include "a64_mlal.h"

/* A bias as the half sums of two pixels. */
GS_INLINE int32x4_t gs_biasn(int32_t bias) { return vreinterpretq_s32_u64(vdupq_n_u64((uint32_t)bias)); }

#define GS_MLAL_START(acc, bias)        \
  int32x4_t acc[8 * GS_VECTORS];        \
  GS_UNROLL for (int i = 0; i < 8 * GS_VECTORS; i++) acc[i] = gs_biasn((bias)[i / (2 * GS_VECTORS)])

/* The biases of four rows, four times (bias, 0) each, as the loops in assembly take them. */
GS_INLINE void gs_biases4n(uint64_t to[16], const int32_t *bias) {
  GS_UNROLL for (int r = 0; r < 4; r++) {
    const uint64x2_t two = vdupq_n_u64((uint32_t)bias[r]);
    vst1q_u64(to + 4 * r, two);
    vst1q_u64(to + 4 * r + 2, two);
  }
}

/* acc += two groups times the weights of four rows: 16 weights of the first group, then 16 of the second. */
GS_INLINE void gs_rows_pairn(int32x4_t acc[8 * GS_VECTORS], const int8x16_t p0[GS_VECTORS], const int8x16_t p1[GS_VECTORS],
                             const int8_t *val) {
  GS_UNROLL for (int r = 0; r < 4; r++) {
    const int8x8_t w0 = gs_dup4(val + 4 * r), w1 = gs_dup4(val + 16 + 4 * r);
    GS_UNROLL for (int v = 0; v < GS_VECTORS; v++) {
      int32x4_t *s = acc + 2 * GS_VECTORS * r + 2 * v;
      s[0] = vpadalq_s16(s[0], vmlal_s8(vmull_s8(vget_low_s8(p0[v]), w0), vget_low_s8(p1[v]), w1));
      s[1] = vpadalq_s16(s[1], vmlal_s8(vmull_s8(vget_high_s8(p0[v]), w0), vget_high_s8(p1[v]), w1));
    }
  }
}

/* The same with one group. */
GS_INLINE void gs_rows_lastn(int32x4_t acc[8 * GS_VECTORS], const int8x16_t p[GS_VECTORS], const int8_t *val) {
  GS_UNROLL for (int r = 0; r < 4; r++) {
    const int8x8_t w0 = gs_dup4(val + 4 * r);
    GS_UNROLL for (int v = 0; v < GS_VECTORS; v++) {
      int32x4_t *s = acc + 2 * GS_VECTORS * r + 2 * v;
      s[0] = vpadalq_s16(s[0], vmull_s8(vget_low_s8(p[v]), w0));
      s[1] = vpadalq_s16(s[1], vmull_s8(vget_high_s8(p[v]), w0));
    }
  }
}

/* Four pixels of four rows of words, eight each: rows 0 and 1, rows 2 and 3. */
GS_INLINE int8x16_t gs_quadn(int16x8_t w01, int16x8_t w23) {
  const int16x4x2_t q = vzip_s16(vsli_n_s16(vget_low_s16(w01), vget_high_s16(w01), 8), vsli_n_s16(vget_low_s16(w23), vget_high_s16(w23), 8));
  return vreinterpretq_s8_s16(vcombine_s16(q.val[0], q.val[1]));
}

/* Requantises and writes four rows of 4 * GS_VECTORS pixels. */
GS_INLINE void gs_store_quadsn(const gs_mm_args *a, uint32_t block, uint32_t pixel, const int32x4_t acc[8 * GS_VECTORS],
                               const gs_rqn *q) {
  const float *scale = a->q.scale + (size_t)block * 4;
  int8_t *y = (int8_t *)a->y + (size_t)block * a->y_stride + (size_t)pixel * 4;
#if defined(__aarch64__)
  int8x8x4_t rows;
  GS_UNROLL for (int r = 0; r < 4; r++) {
    const float32x4_t s = vdupq_n_f32(scale[r]);
    rows.val[r] = gs_rqn_half(gs_rqn_words(gs_scaledn(gs_pairsn(acc[4 * r], acc[4 * r + 1]), s),
                                           gs_scaledn(gs_pairsn(acc[4 * r + 2], acc[4 * r + 3]), s), q), q);
  }
  vst4_s8(y, rows);
#else
  float32x4_t v[4];
  GS_UNROLL for (int r = 0; r < 4; r++) v[r] = gs_scaledn(gs_pairsn(acc[2 * r], acc[2 * r + 1]), vdupq_n_f32(scale[r]));
  vst1q_s8(y, gs_quadn(gs_rqn_words(v[0], v[1], q), gs_rqn_words(v[2], v[3], q)));
#endif
}
#endif
