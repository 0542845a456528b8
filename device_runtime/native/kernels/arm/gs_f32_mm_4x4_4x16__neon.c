/* Sparse f32 in 4x1 blocks: four rows share a list of columns. */
#include "neon.h"

#define VECTORS (2 * GS_VECTORS) /* of four pixels a pass */

/* acc[r] += x * w[r] */
GS_INLINE void rows(float32x4_t acc[4], float32x4_t x, float32x4_t w) {
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

GS_INLINE void tile(const gs_mm_args *a, uint32_t block, uint32_t pixel) {
  const gs_packed *w = a->w;
  const char *x = (const char *)a->x + (size_t)pixel * 4;
  const uint32_t last = w->start[block + 1];
  uint32_t e = w->start[block];
  const float *val = (const float *)w->val + (size_t)e * 4;
  const float *bias = (const float *)w->bias + (size_t)block * 4;
  float32x4_t acc[VECTORS][4];
  GS_UNROLL for (int v = 0; v < VECTORS; v++) GS_UNROLL for (int r = 0; r < 4; r++) acc[v][r] = vdupq_n_f32(bias[r]);
  for (; e < last; e++, val += 4) {
    const char *xe = x + w->off[e];
    const float32x4_t wv = vld1q_f32(val);
    GS_UNROLL for (int v = 0; v < VECTORS; v++) rows(acc[v], vld1q_f32((const float *)(const void *)(xe + 16 * v)), wv);
  }
  const uint32_t left = w->rows - block * 4;
  const float32x4_t lo = vdupq_n_f32(a->lo), hi = vdupq_n_f32(a->hi);
  GS_UNROLL for (uint32_t r = 0; r < 4; r++) {
    if (r >= left) break;
    float *y = (float *)(void *)((char *)a->y + (size_t)(block * 4 + r) * a->y_stride) + pixel;
    GS_UNROLL for (int v = 0; v < VECTORS; v++) vst1q_f32(y + 4 * v, vminq_f32(vmaxq_f32(acc[v][r], lo), hi));
  }
}

void gs_f32_mm_4x4_4x16__neon(const gs_mm_args *a) {
  for (uint32_t p = 0; p < a->npx; p += 4 * VECTORS)
    for (uint32_t b = a->block0; b < a->block1; b++) tile(a, b, p);
}
