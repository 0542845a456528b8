/* Dense int8 times one vector by sdot: sixteen rows, four registers of sums. */
#include "neondot.h"

GS_DOT void gs_s8_mm_dense_16x1__neondot(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  const gs_rqn q = gs_rqn_make(&a->q);
  const uint32_t padded = (w->rows + 3) / 4 * 4;
  for (uint32_t b = a->block0; b < a->block1; b++) {
    const int8_t *x = a->x, *val = (const int8_t *)w->val + (size_t)b * w->groups * 64;
    int32x4_t acc[4];
    GS_UNROLL for (int i = 0; i < 4; i++) acc[i] = vld1q_s32((const int32_t *)w->bias + (size_t)b * 16 + 4 * i);
    for (uint32_t g = w->groups; g != 0; g--, x += 4, val += 64) {
      const int8x8_t xv = gs_dup4(x);
      GS_UNROLL for (int i = 0; i < 4; i++) acc[i] = vdotq_lane_s32(acc[i], vld1q_s8(val + 16 * i), xv, 0);
    }
    GS_UNROLL for (int i = 0; i < 4; i++) {
      const size_t row = (size_t)b * 16 + 4 * (size_t)i;
      if (row >= padded) break;
      gs_store_quadn_1((int8_t *)a->y + row, acc[i], a->q.scale + row, &q);
    }
  }
}
