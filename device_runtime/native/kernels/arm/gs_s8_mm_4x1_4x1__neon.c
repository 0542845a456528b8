/* Sparse int8 in 4x1 blocks times one vector: four single columns (sixteen weights) a step. */
#include "neon.h"

void gs_s8_mm_4x1_4x1__neon(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  const uint8_t *x = a->x;
  const gs_rqn q = gs_rqn_make(&a->q);
  for (uint32_t b = a->block0; b < a->block1; b++) {
    const uint32_t last = w->start[b + 1];
    uint32_t e = w->start[b];
    const int8_t *val = (const int8_t *)w->val + (size_t)e * 4;
    int32x4_t low = vdupq_n_s32(0), high = low;
    for (; e < last; e += 4, val += 16) {
      const int8x8_t xv = vreinterpret_s8_u32(vdup_n_u32(gs_gathern_1(x, w->off + e)));
      low = vpadalq_s16(low, vmull_s8(vld1_s8(val), xv));
      high = vpadalq_s16(high, vmull_s8(vld1_s8(val + 8), xv));
    }
    int32x4_t sum = vaddq_s32(gs_pairsn(low, high), vld1q_s32((const int32_t *)w->bias + (size_t)b * 4));
    gs_store_quadn_1((int8_t *)a->y + (size_t)b * a->y_stride, sum, a->q.scale + (size_t)b * 4, &q);
  }
}
