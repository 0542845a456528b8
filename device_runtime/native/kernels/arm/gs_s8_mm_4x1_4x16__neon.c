/* Sparse int8 in 4x1 blocks: four single columns are interleaved on the fly into a group, two groups a step; eight pixels at a
 * time (armv7: four). */
#include "neon_4x1.h"

void gs_s8_mm_4x1_4x16__neon(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  const gs_rqn q = gs_rqn_make(&a->q);
  for (uint32_t p = 0; p < a->npx; p += 4 * GS_VECTORS)
    for (uint32_t b = a->block0; b < a->block1; b++) {
      const int8_t *x = (const int8_t *)a->x + (size_t)p * 4;
      const int32_t *bias = (const int32_t *)w->bias + (size_t)b * 4;
#if defined(__aarch64__)
      uint64_t biases[16];
      int32x4_t acc[16];
      gs_biases4n(biases, bias);
      GS_MLAL_TILE_4X1(acc, biases, w, x, w->start[b], w->start[b + 1]);
#else
      const uint32_t last = w->start[b + 1];
      uint32_t e = w->start[b];
      const int8_t *val = (const int8_t *)w->val + (size_t)e * 4;
      GS_MLAL_START(acc, bias);
      for (; e + 8 <= last; e += 8, val += 32) {
        const int8x16_t p0 = gs_gathern(x, w->off + e), p1 = gs_gathern(x, w->off + e + 4);
        gs_rows_pairn(acc, &p0, &p1, val);
      }
      if (e < last) {
        const int8x16_t p0 = gs_gathern(x, w->off + e);
        gs_rows_lastn(acc, &p0, val);
      }
#endif
      gs_store_quadsn(a, b, p, acc, &q);
    }
}
