/* f32 matrix products: one step and the end of four rows, and the end of products with one vector. */
#ifndef GS_ARM_NEON_F32_H
#define GS_ARM_NEON_F32_H
#include "neon.h"

#define GS_VECTORS_F32 (2 * GS_VECTORS) /* of four pixels a pass */

/* acc[r] += x * w[r] */
GS_INLINE void gs_rowsn(float32x4_t acc[4], float32x4_t x, float32x4_t w) {
#if defined(__aarch64__)
  acc[0] = vfmaq_laneq_f32(acc[0], x, w, 0);
  acc[1] = vfmaq_laneq_f32(acc[1], x, w, 1);
  acc[2] = vfmaq_laneq_f32(acc[2], x, w, 2);
  acc[3] = vfmaq_laneq_f32(acc[3], x, w, 3);
#else
  acc[0] = vmlaq_lane_f32(acc[0], x, vget_low_f32(w), 0);
  acc[1] = vmlaq_lane_f32(acc[1], x, vget_low_f32(w), 1);
  acc[2] = vmlaq_lane_f32(acc[2], x, vget_high_f32(w), 0);
  acc[3] = vmlaq_lane_f32(acc[3], x, vget_high_f32(w), 1);
#endif
}

/* Clamps and writes those of four rows that exist. */
GS_INLINE void gs_store_tilen(const gs_mm_args *a, uint32_t block, uint32_t pixel, float32x4_t acc[GS_VECTORS_F32][4]) {
  const uint32_t left = a->w->rows - block * 4;
  const float32x4_t lo = vdupq_n_f32(a->lo), hi = vdupq_n_f32(a->hi);
  GS_UNROLL for (uint32_t r = 0; r < 4; r++) {
    if (r >= left) break;
    float *y = (float *)(void *)((char *)a->y + (size_t)(block * 4 + r) * a->y_stride) + pixel;
    GS_UNROLL for (int v = 0; v < GS_VECTORS_F32; v++) vst1q_f32(y + 4 * v, vminq_f32(vmaxq_f32(acc[v][r], lo), hi));
  }
}

/* Clamps four rows and writes those that exist. */
GS_INLINE void gs_store_rowsn(const gs_mm_args *a, uint32_t row, float32x4_t sum) {
  float out[4];
  vst1q_f32(out, vminq_f32(vmaxq_f32(sum, vdupq_n_f32(a->lo)), vdupq_n_f32(a->hi)));
  const uint32_t left = a->w->rows - row;
  memcpy((float *)a->y + row, out, (left < 4 ? left : 4) * sizeof *out);
}
#endif
