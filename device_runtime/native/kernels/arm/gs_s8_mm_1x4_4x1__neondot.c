/* Sparse int8 in 1x4 blocks times one vector by sdot: four entries of a row a step. */
#include "neondot.h"

GS_DOT void gs_s8_mm_1x4_4x1__neondot(const gs_mm_args *a) {
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
      for (; e + 4 <= last; e += 4, val += 16) {
        uint32_t v[4];
        GS_UNROLL for (int i = 0; i < 4; i++) memcpy(&v[i], x + w->off[e + (uint32_t)i], 4);
        acc = vdotq_s32(acc, vreinterpretq_s8_u32(vld1q_u32(v)), vld1q_s8(val));
      }
      sum[r] = vaddvq_s32(acc);
      for (; e < last; e++, val += 4)
        for (uint32_t l = 0; l < 4; l++) sum[r] += x[w->off[e] + l] * val[l];
    }
    int32x4_t all = vaddq_s32(vld1q_s32(sum), vld1q_s32((const int32_t *)w->bias + (size_t)b * 4));
    gs_store_quadn_1((int8_t *)a->y + (size_t)b * a->y_stride, all, a->q.scale + (size_t)b * 4, &q);
  }
}
