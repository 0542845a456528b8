/* Dense int8 times one vector by smull, smlal, sadalp: eight rows, two groups a step. */
#include "neon.h"

void gs_s8_mm_dense_8x1__neon(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  const gs_rqn q = gs_rqn_make(&a->q);
  const uint32_t padded = (w->rows + 3) / 4 * 4;
  for (uint32_t b = a->block0; b < a->block1; b++) {
    const int8_t *x = a->x, *val = (const int8_t *)w->val + (size_t)b * w->groups * 32;
    int32x4_t acc[4];
    GS_UNROLL for (int i = 0; i < 4; i++) acc[i] = vdupq_n_s32(0);
    uint32_t g = w->groups;
    for (; g >= 2; g -= 2, x += 8, val += 64) {
      const int8x8_t x0 = gs_dup4(x), x1 = gs_dup4(x + 4);
      GS_UNROLL for (int i = 0; i < 4; i++)
        acc[i] = vpadalq_s16(acc[i], vmlal_s8(vmull_s8(vld1_s8(val + 8 * i), x0), vld1_s8(val + 32 + 8 * i), x1));
    }
    if (g != 0) {
      const int8x8_t x0 = gs_dup4(x);
      GS_UNROLL for (int i = 0; i < 4; i++) acc[i] = vpadalq_s16(acc[i], vmull_s8(vld1_s8(val + 8 * i), x0));
    }
    GS_UNROLL for (int h = 0; h < 2; h++) {
      const size_t row = (size_t)b * 8 + 4 * (size_t)h;
      if (row >= padded) break;
      int32x4_t sum = vaddq_s32(gs_pairsn(acc[2 * h], acc[2 * h + 1]), vld1q_s32((const int32_t *)w->bias + row));
      gs_store_quadn_1((int8_t *)a->y + row, sum, a->q.scale + row, &q);
    }
  }
}
