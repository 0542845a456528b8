/* Sparse int8 in 4x4 blocks by smull, smlal, sadalp: four rows share a list of groups, two entries a step. */
#include "neon_mm.h"

GS_INLINE void tile(const gs_mm_args *a, uint32_t block, uint32_t pixel) {
  const gs_packed *w = a->w;
  const int8_t *x = (const int8_t *)a->x + (size_t)pixel * 4;
  const uint32_t last = w->start[block + 1];
  uint32_t e = w->start[block];
  const int8_t *val = (const int8_t *)w->val + (size_t)e * 16;
  int32x4_t acc[4][2 * GS_VECTORS];
  GS_UNROLL for (int r = 0; r < 4; r++) GS_UNROLL for (int v = 0; v < 2 * GS_VECTORS; v++) acc[r][v] = vdupq_n_s32(0);
  for (; e + 2 <= last; e += 2) {
    const int8_t *x0 = x + w->off[e], *x1 = x + w->off[e + 1];
    int8x16_t p0[GS_VECTORS], p1[GS_VECTORS];
    GS_UNROLL for (int v = 0; v < GS_VECTORS; v++) {
      p0[v] = vld1q_s8(x0 + 16 * v);
      p1[v] = vld1q_s8(x1 + 16 * v);
    }
    gs_rows_pairn(acc, p0, p1, val);
    val += 32;
  }
  if (e < last) {
    const int8_t *x0 = x + w->off[e];
    int8x16_t p[GS_VECTORS];
    GS_UNROLL for (int v = 0; v < GS_VECTORS; v++) p[v] = vld1q_s8(x0 + 16 * v);
    gs_rows_lastn(acc, p, val);
  }
  gs_store_quadsn(a, block, pixel, acc);
}

void gs_s8_mm_4x4_4x16__neon(const gs_mm_args *a) {
  for (uint32_t p = 0; p < a->npx; p += 4 * GS_VECTORS)
    for (uint32_t b = a->block0; b < a->block1; b++) tile(a, b, p);
}
