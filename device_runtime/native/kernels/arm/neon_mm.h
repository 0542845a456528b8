/* int8 matrix products by smull, smlal, sadalp: one step and the end of four rows, whatever list their columns come from. */
#ifndef GS_ARM_NEON_MM_H
#define GS_ARM_NEON_MM_H
#include "neon.h"

/* acc[r] += two groups times the weights of row r: 16 weights of the first group, then 16 of the second. */
GS_INLINE void gs_rows_pairn(int32x4_t acc[4][2 * GS_VECTORS], const int8x16_t p0[GS_VECTORS], const int8x16_t p1[GS_VECTORS],
                             const int8_t *val) {
  GS_UNROLL for (int r = 0; r < 4; r++) {
    const int8x8_t w0 = gs_dup4(val + 4 * r), w1 = gs_dup4(val + 16 + 4 * r);
    GS_UNROLL for (int v = 0; v < GS_VECTORS; v++) {
      acc[r][2 * v] = vpadalq_s16(acc[r][2 * v], vmlal_s8(vmull_s8(vget_low_s8(p0[v]), w0), vget_low_s8(p1[v]), w1));
      acc[r][2 * v + 1] = vpadalq_s16(acc[r][2 * v + 1], vmlal_s8(vmull_s8(vget_high_s8(p0[v]), w0), vget_high_s8(p1[v]), w1));
    }
  }
}

/* The same with one group. */
GS_INLINE void gs_rows_lastn(int32x4_t acc[4][2 * GS_VECTORS], const int8x16_t p[GS_VECTORS], const int8_t *val) {
  GS_UNROLL for (int r = 0; r < 4; r++) {
    const int8x8_t w0 = gs_dup4(val + 4 * r);
    GS_UNROLL for (int v = 0; v < GS_VECTORS; v++) {
      acc[r][2 * v] = vpadalq_s16(acc[r][2 * v], vmull_s8(vget_low_s8(p[v]), w0));
      acc[r][2 * v + 1] = vpadalq_s16(acc[r][2 * v + 1], vmull_s8(vget_high_s8(p[v]), w0));
    }
  }
}

/* Bias, requantisation and store of four rows. */
GS_INLINE void gs_store_quadsn(const gs_mm_args *a, uint32_t block, uint32_t pixel, int32x4_t acc[4][2 * GS_VECTORS]) {
  const int32_t *bias = (const int32_t *)a->w->bias + (size_t)block * 4;
  const float *scale = a->q.scale + (size_t)block * 4;
  const gs_rqn q = gs_rqn_make(&a->q);
  int8_t *y = (int8_t *)a->y + (size_t)block * a->y_stride + (size_t)pixel * 4;
  GS_UNROLL for (int v = 0; v < GS_VECTORS; v++) {
    int32x4_t out[4];
    GS_UNROLL for (int r = 0; r < 4; r++)
      out[r] = gs_rqn_acc(vaddq_s32(gs_pairsn(acc[r][2 * v], acc[r][2 * v + 1]), vdupq_n_s32(bias[r])), vdupq_n_f32(scale[r]), &q);
    vst1q_s8(y + 16 * v, gs_quadn(out[0], out[1], out[2], out[3]));
  }
}
#endif
