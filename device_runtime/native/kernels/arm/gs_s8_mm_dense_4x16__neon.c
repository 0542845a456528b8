/* Dense int8 by smull, smlal, sadalp: four rows, two groups a step. */
#include "neon_mm.h"

GS_INLINE void tile(const gs_mm_args *a, uint32_t block, uint32_t pixel) {
  const gs_packed *w = a->w;
  const int8_t *x = (const int8_t *)a->x + (size_t)pixel * 4;
  const int8_t *val = (const int8_t *)w->val + (size_t)block * w->groups * 16;
  int32x4_t acc[4][2 * GS_VECTORS];
  GS_UNROLL for (int r = 0; r < 4; r++) GS_UNROLL for (int v = 0; v < 2 * GS_VECTORS; v++) acc[r][v] = vdupq_n_s32(0);
  uint32_t g = w->groups;
  for (; g >= 2; g -= 2) {
    int8x16_t p0[GS_VECTORS], p1[GS_VECTORS];
    GS_UNROLL for (int v = 0; v < GS_VECTORS; v++) {
      p0[v] = vld1q_s8(x + 16 * v);
      p1[v] = vld1q_s8(x + a->x_stride + 16 * v);
    }
    gs_rows_pairn(acc, p0, p1, val);
    x += 2 * a->x_stride;
    val += 32;
  }
  if (g != 0) {
    int8x16_t p[GS_VECTORS];
    GS_UNROLL for (int v = 0; v < GS_VECTORS; v++) p[v] = vld1q_s8(x + 16 * v);
    gs_rows_lastn(acc, p, val);
  }
  gs_store_quadsn(a, block, pixel, acc);
}

void gs_s8_mm_dense_4x16__neon(const gs_mm_args *a) {
  for (uint32_t p = 0; p < a->npx; p += 4 * GS_VECTORS)
    for (uint32_t b = a->block0; b < a->block1; b++) tile(a, b, p);
}
