/* Sparse int8 in 4x1 blocks: four single columns are interleaved on the fly into a group, two groups a step. */
#include "neon_mm.h"

GS_INLINE void tile(const gs_mm_args *a, uint32_t block, uint32_t pixel) {
  const gs_packed *w = a->w;
  const int8_t *x = (const int8_t *)a->x + (size_t)pixel * 4;
  const uint32_t last = w->start[block + 1];
  uint32_t e = w->start[block];
  const int8_t *val = (const int8_t *)w->val + (size_t)e * 4;
  int32x4_t acc[4][2 * GS_VECTORS];
  GS_UNROLL for (int r = 0; r < 4; r++) GS_UNROLL for (int v = 0; v < 2 * GS_VECTORS; v++) acc[r][v] = vdupq_n_s32(0);
  for (; e + 8 <= last; e += 8) {
    int8x16_t p0[GS_VECTORS], p1[GS_VECTORS];
    GS_UNROLL for (int v = 0; v < GS_VECTORS; v++) {
      p0[v] = gs_gathern(x + 16 * v, w->off + e);
      p1[v] = gs_gathern(x + 16 * v, w->off + e + 4);
    }
    gs_rows_pairn(acc, p0, p1, val);
    val += 32;
  }
  if (e < last) {
    int8x16_t p[GS_VECTORS];
    GS_UNROLL for (int v = 0; v < GS_VECTORS; v++) p[v] = gs_gathern(x + 16 * v, w->off + e);
    gs_rows_lastn(acc, p, val);
  }
  gs_store_quadsn(a, block, pixel, acc);
}

void gs_s8_mm_4x1_4x16__neon(const gs_mm_args *a) {
  for (uint32_t p = 0; p < a->npx; p += 4 * GS_VECTORS)
    for (uint32_t b = a->block0; b < a->block1; b++) tile(a, b, p);
}
