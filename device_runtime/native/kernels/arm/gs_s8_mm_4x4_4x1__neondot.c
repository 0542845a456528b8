/* Sparse int8 in 4x4 blocks times one vector by sdot: an entry (sixteen weights) a step. */
#include "neondot.h"

GS_DOT void gs_s8_mm_4x4_4x1__neondot(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  const int8_t *x = a->x;
  const gs_rqn q = gs_rqn_make(&a->q);
  for (uint32_t b = a->block0; b < a->block1; b++) {
    const uint32_t last = w->start[b + 1];
    uint32_t e = w->start[b];
    const int8_t *val = (const int8_t *)w->val + (size_t)e * 16;
    int32x4_t acc = vld1q_s32((const int32_t *)w->bias + (size_t)b * 4);
    for (; e < last; e += 1, val += 16) acc = vdotq_lane_s32(acc, vld1q_s8(val), gs_dup4(x + w->off[e]), 0);
    gs_store_quadn_1((int8_t *)a->y + (size_t)b * a->y_stride, acc, a->q.scale + (size_t)b * 4, &q);
  }
}
