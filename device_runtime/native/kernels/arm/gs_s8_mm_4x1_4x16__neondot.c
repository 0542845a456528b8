/* Sparse int8 in 4x1 blocks by sdot: four single columns are interleaved on the fly into a group. */
#include "neondot.h"
#include "neon_4x1.h"

GS_DOT_INLINE void body(const gs_mm_args *a, const gs_rqn *q, const int relu) {
  const gs_packed *w = a->w;
  for (uint32_t p = 0; p < a->npx; p += 16)
    for (uint32_t b = a->block0; b < a->block1; b++) {
      const int8_t *x = (const int8_t *)a->x + (size_t)p * 4;
      const uint32_t last = w->start[b + 1];
      const int8_t *val = (const int8_t *)w->val + (size_t)w->start[b] * 4;
      GS_DOT_START(acc, (const int32_t *)w->bias + (size_t)b * 4);
      for (uint32_t e = w->start[b]; e < last; e += 4, val += 16) {
        const gs_columnsn columns = gs_columnsn_of(x, w->off + e);
        const int8x16_t wv = vld1q_s8(val);
        GS_UNROLL for (int v = 0; v < 4; v++) {
          const int8x16_t xv = gs_gathern(&columns, v);
          acc[4 * v] = vdotq_laneq_s32(acc[4 * v], xv, wv, 0);
          acc[4 * v + 1] = vdotq_laneq_s32(acc[4 * v + 1], xv, wv, 1);
          acc[4 * v + 2] = vdotq_laneq_s32(acc[4 * v + 2], xv, wv, 2);
          acc[4 * v + 3] = vdotq_laneq_s32(acc[4 * v + 3], xv, wv, 3);
        }
      }
      gs_store16(a, b, p, acc, q, relu);
    }
}

GS_DOT_KERNEL(gs_s8_mm_4x1_4x16__neondot, body)
