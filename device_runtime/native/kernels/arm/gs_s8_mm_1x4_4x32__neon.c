/* Sparse int8 in 1x4 blocks by smull, smlal, sadalp: every row has its own groups, two entries a step. */
#include "neon.h"

#define WIDE (4 * GS_VECTORS) /* vectors of four pixels a pass */

GS_INLINE void tile(const gs_mm_args *a, uint32_t block, uint32_t pixel, const int nv) {
  const gs_packed *w = a->w;
  const int8_t *x = (const int8_t *)a->x + (size_t)pixel * 4;
  const gs_rqn q = gs_rqn_make(&a->q);
  int32x4_t out[4][WIDE];
  for (uint32_t r = 0; r < 4; r++) {
    const size_t row = (size_t)block * 4 + r;
    const uint32_t last = w->start[row + 1];
    uint32_t e = w->start[row];
    const int8_t *val = (const int8_t *)w->val + (size_t)e * 4;
    int32x4_t acc[2 * WIDE];
    GS_UNROLL for (int v = 0; v < 2 * nv; v++) acc[v] = vdupq_n_s32(0);
    for (; e + 2 <= last; e += 2, val += 8) {
      const int8_t *x0 = x + w->off[e], *x1 = x + w->off[e + 1];
      const int8x8_t w0 = gs_dup4(val), w1 = gs_dup4(val + 4);
      GS_UNROLL for (int v = 0; v < nv; v++) {
        const int8x16_t p0 = vld1q_s8(x0 + 16 * v), p1 = vld1q_s8(x1 + 16 * v);
        acc[2 * v] = vpadalq_s16(acc[2 * v], vmlal_s8(vmull_s8(vget_low_s8(p0), w0), vget_low_s8(p1), w1));
        acc[2 * v + 1] = vpadalq_s16(acc[2 * v + 1], vmlal_s8(vmull_s8(vget_high_s8(p0), w0), vget_high_s8(p1), w1));
      }
    }
    if (e < last) {
      const int8_t *x0 = x + w->off[e];
      const int8x8_t w0 = gs_dup4(val);
      GS_UNROLL for (int v = 0; v < nv; v++) {
        const int8x16_t p0 = vld1q_s8(x0 + 16 * v);
        acc[2 * v] = vpadalq_s16(acc[2 * v], vmull_s8(vget_low_s8(p0), w0));
        acc[2 * v + 1] = vpadalq_s16(acc[2 * v + 1], vmull_s8(vget_high_s8(p0), w0));
      }
    }
    const int32x4_t bias = vdupq_n_s32(((const int32_t *)w->bias)[row]);
    const float32x4_t scale = vdupq_n_f32(a->q.scale[row]);
    GS_UNROLL for (int v = 0; v < nv; v++)
      out[r][v] = gs_rqn_acc(vaddq_s32(gs_pairsn(acc[2 * v], acc[2 * v + 1]), bias), scale, &q);
  }
  int8_t *y = (int8_t *)a->y + (size_t)block * a->y_stride + (size_t)pixel * 4;
  GS_UNROLL for (int v = 0; v < nv; v++) vst1q_s8(y + 16 * v, gs_quadn(out[0][v], out[1][v], out[2][v], out[3][v]));
}

void gs_s8_mm_1x4_4x32__neon(const gs_mm_args *a) {
  uint32_t p = 0;
  for (; p + 4 * WIDE <= a->npx; p += 4 * WIDE)
    for (uint32_t b = a->block0; b < a->block1; b++) tile(a, b, p, WIDE);
  for (; p < a->npx; p += 16)
    for (uint32_t b = a->block0; b < a->block1; b++) tile(a, b, p, 4);
}
