/* Dense int8 by smull, smlal, sadalp: four rows, two groups a step; eight pixels at a time (armv7: four). */
#include "neon_mm.h"

void gs_s8_mm_dense_4x16__neon(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  const gs_rqn q = gs_rqn_make(&a->q);
  for (uint32_t p = 0; p < a->npx; p += 4 * GS_VECTORS)
    for (uint32_t b = a->block0; b < a->block1; b++) {
      const int8_t *x = (const int8_t *)a->x + (size_t)p * 4;
      const int8_t *val = (const int8_t *)w->val + (size_t)b * w->groups * 16;
      const int32_t *bias = (const int32_t *)w->bias + (size_t)b * 4;
#if defined(__aarch64__)
      uint64_t biases[16];
      int32x4_t acc[16];
      gs_biases4n(biases, bias);
      GS_MLAL_TILE_DENSE(acc, biases, val, x, a->x_stride, w->groups);
#else
      GS_MLAL_START(acc, bias);
      uint32_t g = w->groups;
      for (; g >= 2; g -= 2, x += 2 * a->x_stride, val += 32) {
        const int8x16_t p0 = vld1q_s8(x), p1 = vld1q_s8(x + a->x_stride);
        gs_rows_pairn(acc, &p0, &p1, val);
      }
      if (g != 0) {
        const int8x16_t p0 = vld1q_s8(x);
        gs_rows_lastn(acc, &p0, val);
      }
#endif
      gs_store_quadsn(a, b, p, acc, &q);
    }
}
