/* Sparse int8 in 4x4 blocks by sdot: four rows share a list of groups. */
#include "neondot.h"

GS_DOT_INLINE void tile(const gs_mm_args *a, uint32_t block, uint32_t pixel) {
  const gs_packed *w = a->w;
  const int8_t *x = (const int8_t *)a->x + (size_t)pixel * 4;
  const uint32_t last = w->start[block + 1];
  uint32_t e = w->start[block];
  const int8_t *val = (const int8_t *)w->val + (size_t)e * 16;
  GS_DOT_START(acc, (const int32_t *)w->bias + (size_t)block * 4);
  for (; e < last; e++, val += 16) {
    const int8_t *xe = x + w->off[e];
    const int8x16_t wv = vld1q_s8(val);
    GS_UNROLL for (int v = 0; v < 4; v++) GS_DOT_ROWS(acc[v], vld1q_s8(xe + 16 * v), wv);
  }
  gs_store16(a, block, pixel, acc);
}

GS_DOT void gs_s8_mm_4x4_4x16__neondot(const gs_mm_args *a) {
  for (uint32_t p = 0; p < a->npx; p += 16)
    for (uint32_t b = a->block0; b < a->block1; b++) tile(a, b, p);
}
