/* Dense int8 by smull, smlal, sadalp: four rows, two groups a step. */
#include "neon.h"

GS_INLINE void tile(const gs_mm_args *a, uint32_t block, uint32_t pixel) {
  const gs_packed *w = a->w;
  const int8_t *x = (const int8_t *)a->x + (size_t)pixel * 4;
  const int8_t *val = (const int8_t *)w->val + (size_t)block * w->groups * 16;
  const int32_t *bias = (const int32_t *)w->bias + (size_t)block * 4;
  const float *scale = a->q.scale + (size_t)block * 4;
  const gs_rqn q = gs_rqn_make(&a->q);
  int32x4_t acc[4][2 * GS_VECTORS];
  GS_UNROLL for (int r = 0; r < 4; r++) GS_UNROLL for (int v = 0; v < 2 * GS_VECTORS; v++) acc[r][v] = vdupq_n_s32(0);
  uint32_t g = w->groups;
  for (; g >= 2; g -= 2) {
    int8x16_t p0[GS_VECTORS], p1[GS_VECTORS];
    GS_UNROLL for (int v = 0; v < GS_VECTORS; v++) {
      p0[v] = vld1q_s8(x + 16 * v);
      p1[v] = vld1q_s8(x + a->x_stride + 16 * v);
    }
    GS_UNROLL for (int r = 0; r < 4; r++) {
      const int8x8_t w0 = gs_dup4(val + 4 * r), w1 = gs_dup4(val + 16 + 4 * r);
      GS_UNROLL for (int v = 0; v < GS_VECTORS; v++) {
        acc[r][2 * v] = vpadalq_s16(acc[r][2 * v], vmlal_s8(vmull_s8(vget_low_s8(p0[v]), w0), vget_low_s8(p1[v]), w1));
        acc[r][2 * v + 1] = vpadalq_s16(acc[r][2 * v + 1], vmlal_s8(vmull_s8(vget_high_s8(p0[v]), w0), vget_high_s8(p1[v]), w1));
      }
    }
    x += 2 * a->x_stride;
    val += 32;
  }
  if (g != 0) {
    GS_UNROLL for (int r = 0; r < 4; r++) {
      const int8x8_t w0 = gs_dup4(val + 4 * r);
      GS_UNROLL for (int v = 0; v < GS_VECTORS; v++) {
        const int8x16_t p0 = vld1q_s8(x + 16 * v);
        acc[r][2 * v] = vpadalq_s16(acc[r][2 * v], vmull_s8(vget_low_s8(p0), w0));
        acc[r][2 * v + 1] = vpadalq_s16(acc[r][2 * v + 1], vmull_s8(vget_high_s8(p0), w0));
      }
    }
  }
  int8_t *y = (int8_t *)a->y + (size_t)block * a->y_stride + (size_t)pixel * 4;
  GS_UNROLL for (int v = 0; v < GS_VECTORS; v++) {
    int32x4_t out[4];
    GS_UNROLL for (int r = 0; r < 4; r++)
      out[r] = gs_rqn_acc(vaddq_s32(gs_pairsn(acc[r][2 * v], acc[r][2 * v + 1]), vdupq_n_s32(bias[r])), vdupq_n_f32(scale[r]), &q);
    vst1q_s8(y + 16 * v, gs_quadn(out[0], out[1], out[2], out[3]));
  }
}

void gs_s8_mm_dense_4x16__neon(const gs_mm_args *a) {
  for (uint32_t p = 0; p < a->npx; p += 4 * GS_VECTORS)
    for (uint32_t b = a->block0; b < a->block1; b++) tile(a, b, p);
}
