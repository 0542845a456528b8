/* Sparse int8 in 1x4 blocks times one vector: two entries of a row a step. */
#include "neon.h"

GS_INLINE int8x8_t pair(const int8_t *x, uint32_t off0, uint32_t off1) {
  uint32_t v0, v1;
  memcpy(&v0, x + off0, 4);
  memcpy(&v1, x + off1, 4);
  return vreinterpret_s8_u32(vset_lane_u32(v1, vdup_n_u32(v0), 1));
}

void gs_s8_mm_1x4_4x1__neon(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  const int8_t *x = a->x;
  const gs_rqn q = gs_rqn_make(&a->q);
  for (uint32_t b = a->block0; b < a->block1; b++) {
    int32_t sum[4];
    for (uint32_t r = 0; r < 4; r++) {
      const size_t row = (size_t)b * 4 + r;
      const uint32_t last = w->start[row + 1];
      uint32_t e = w->start[row];
      const int8_t *val = (const int8_t *)w->val + (size_t)e * 4;
      int32x4_t acc = vdupq_n_s32(0);
      for (; e + 2 <= last; e += 2, val += 8)
        acc = vpadalq_s16(acc, vmull_s8(pair(x, w->off[e], w->off[e + 1]), vld1_s8(val)));
      int32x2_t half = vadd_s32(vget_low_s32(acc), vget_high_s32(acc));
      sum[r] = vget_lane_s32(vpadd_s32(half, half), 0);
      if (e < last)
        for (uint32_t l = 0; l < 4; l++) sum[r] += x[w->off[e] + l] * val[l];
    }
    int32x4_t all = vaddq_s32(vld1q_s32(sum), vld1q_s32((const int32_t *)w->bias + (size_t)b * 4));
    gs_store_quadn_1((int8_t *)a->y + (size_t)b * a->y_stride, all, a->q.scale + (size_t)b * 4, &q);
  }
}
