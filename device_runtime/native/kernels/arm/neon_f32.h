/* f32 matrix products: one step and the end of four rows, and the end of products with one vector. */
#ifndef GS_ARM_NEON_F32_H
#define GS_ARM_NEON_F32_H
#include "neon.h"

#define GS_VECTORS_F32 (2 * GS_VECTORS) /* of four pixels a pass */

/* acc[4*vector + row] of four rows, starting from the bias. */
#define GS_F32_START(acc, bias)             \
  float32x4_t acc[4 * GS_VECTORS_F32];      \
  GS_UNROLL for (int v = 0; v < GS_VECTORS_F32; v++) GS_UNROLL for (int r = 0; r < 4; r++) acc[4 * v + r] = vdupq_n_f32((bias)[r])

#if !defined(__aarch64__)
/* acc[4*vector + row] += x * w[row] */
GS_INLINE void gs_rowsn(float32x4_t acc[4 * GS_VECTORS_F32], const char *x, const float *w) {
  const float32x4_t wv = vld1q_f32(w);
  GS_UNROLL for (int v = 0; v < GS_VECTORS_F32; v++) {
    const float32x4_t xv = vld1q_f32((const float *)(const void *)(x + 16 * v));
    acc[4 * v] = vmlaq_lane_f32(acc[4 * v], xv, vget_low_f32(wv), 0);
    acc[4 * v + 1] = vmlaq_lane_f32(acc[4 * v + 1], xv, vget_low_f32(wv), 1);
    acc[4 * v + 2] = vmlaq_lane_f32(acc[4 * v + 2], xv, vget_high_f32(wv), 0);
    acc[4 * v + 3] = vmlaq_lane_f32(acc[4 * v + 3], xv, vget_high_f32(wv), 1);
  }
}
#endif

/* Clamps and writes those of four rows that exist; acc[4*vector + row]. */
GS_INLINE void gs_store_tilen(const gs_mm_args *a, uint32_t block, uint32_t pixel, const float32x4_t acc[4 * GS_VECTORS_F32]) {
  const uint32_t left = a->w->rows - block * 4;
  const float32x4_t lo = vdupq_n_f32(a->lo), hi = vdupq_n_f32(a->hi);
  GS_UNROLL for (uint32_t r = 0; r < 4; r++) {
    if (r >= left) break;
    float *y = (float *)(void *)((char *)a->y + (size_t)(block * 4 + r) * a->y_stride) + pixel;
    GS_UNROLL for (int v = 0; v < GS_VECTORS_F32; v++) vst1q_f32(y + 4 * v, vminq_f32(vmaxq_f32(acc[4 * v + (int)r], lo), hi));
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
