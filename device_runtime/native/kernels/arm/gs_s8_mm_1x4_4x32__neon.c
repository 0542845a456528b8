/* Sparse int8 in 1x4 blocks by smull, smlal, sadalp: every row has its own groups; up to 32 pixels at a time (armv7: 16). */
#include "neon_mm.h"

#if !defined(__aarch64__)
/* acc[0 .. 8) += the entries [e, last) of one row times sixteen pixels. */
GS_INLINE void row16(int32x4_t acc[8], const gs_packed *w, const int8_t *x, uint32_t e, uint32_t last) {
  const int8_t *val = (const int8_t *)w->val + (size_t)e * 4;
  for (; e + 2 <= last; e += 2, val += 8) {
    const int8_t *x0 = x + w->off[e], *x1 = x + w->off[e + 1];
    const int8x8_t w0 = gs_dup4(val), w1 = gs_dup4(val + 4);
    GS_UNROLL for (int v = 0; v < 4; v++) {
      const int8x16_t p0 = vld1q_s8(x0 + 16 * v), p1 = vld1q_s8(x1 + 16 * v);
      acc[2 * v] = vpadalq_s16(acc[2 * v], vmlal_s8(vmull_s8(vget_low_s8(p0), w0), vget_low_s8(p1), w1));
      acc[2 * v + 1] = vpadalq_s16(acc[2 * v + 1], vmlal_s8(vmull_s8(vget_high_s8(p0), w0), vget_high_s8(p1), w1));
    }
  }
  if (e < last) {
    const int8x8_t w0 = gs_dup4(val);
    GS_UNROLL for (int v = 0; v < 4; v++) {
      const int8x16_t p0 = vld1q_s8(x + w->off[e] + 16 * v);
      acc[2 * v] = vpadalq_s16(acc[2 * v], vmull_s8(vget_low_s8(p0), w0));
      acc[2 * v + 1] = vpadalq_s16(acc[2 * v + 1], vmull_s8(vget_high_s8(p0), w0));
    }
  }
}
#endif

/* 16 * units pixels of four rows. The rows' bytes meet in memory: their accumulators fill the registers one row at a time. */
GS_INLINE void tile(const gs_mm_args *a, uint32_t block, uint32_t pixel, const int units, const gs_rqn *q, const int relu) {
  const gs_packed packed = *a->w, *const w = &packed; /* a copy: stores of bytes may alias all else */
  const float *const scales = a->q.scale + (size_t)block * 4;
  const int8_t *x = (const int8_t *)a->x + (size_t)pixel * 4;
  const int32_t *bias = (const int32_t *)w->bias + (size_t)block * 4;
  int8_t rows[4][32];
#if defined(__aarch64__)
  uint64_t biases[16];
  gs_biases4n(biases, bias);
#endif
  for (uint32_t r = 0; r < 4; r++) {
    const size_t row = (size_t)block * 4 + r;
    int32x4_t acc[16];
#if defined(__aarch64__)
    GS_MLAL_ROW_1X4(acc, units, biases + 4 * r, w, x, w->start[row], w->start[row + 1]);
#else
    GS_UNROLL for (int v = 0; v < 8; v++) acc[v] = gs_biasn(bias[r]);
    row16(acc, w, x, w->start[row], w->start[row + 1]);
#endif
    const float32x4_t scale = vdupq_n_f32(scales[r]);
    GS_UNROLL for (int u = 0; u < units; u++) {
      const int32x4_t *s = acc + 8 * u;
      vst1q_s8(rows[r] + 16 * u, gs_rqn_16(gs_pairsn(s[0], s[1]), gs_pairsn(s[2], s[3]), gs_pairsn(s[4], s[5]),
                                           gs_pairsn(s[6], s[7]), scale, q, relu));
    }
  }
  int8_t *y = (int8_t *)a->y + (size_t)block * a->y_stride + (size_t)pixel * 4;
  GS_UNROLL for (int u = 0; u < units; u++) {
    int8x16x4_t quad;
    GS_UNROLL for (int r = 0; r < 4; r++) quad.val[r] = vld1q_s8(rows[r] + 16 * u);
    vst4q_s8(y + 64 * u, quad);
  }
}

GS_INLINE void body(const gs_mm_args *a, const gs_rqn *q, const int relu) {
  uint32_t p = 0;
#if defined(__aarch64__)
  for (; p + 32 <= a->npx; p += 32)
    for (uint32_t b = a->block0; b < a->block1; b++) tile(a, b, p, 2, q, relu);
#endif
  for (; p < a->npx; p += 16)
    for (uint32_t b = a->block0; b < a->block1; b++) tile(a, b, p, 1, q, relu);
}

void gs_s8_mm_1x4_4x32__neon(const gs_mm_args *a) {
  const gs_rqn q = gs_rqn_make(&a->q);
  if (q.relu) body(a, &q, 1);
  else body(a, &q, 0);
}
