/* Dense int8 by sdot: four rows times sixteen pixels, one sdot for every sixteen products. */
#include "neondot.h"

GS_DOT_INLINE void tile(const gs_mm_args *a, uint32_t block, uint32_t pixel) {
  const gs_packed *w = a->w;
  const int8_t *x = (const int8_t *)a->x + (size_t)pixel * 4;
  const int8_t *val = (const int8_t *)w->val + (size_t)block * w->groups * 16;
  GS_DOT_START(acc, (const int32_t *)w->bias + (size_t)block * 4);
  for (uint32_t g = w->groups; g != 0; g--) {
    const int8x16_t wv = vld1q_s8(val);
    GS_UNROLL for (int v = 0; v < 4; v++) GS_DOT_ROWS(acc[v], vld1q_s8(x + 16 * v), wv);
    x += a->x_stride;
    val += 16;
  }
  gs_store16(a, block, pixel, acc);
}

GS_DOT void gs_s8_mm_dense_4x16__neondot(const gs_mm_args *a) {
  for (uint32_t p = 0; p < a->npx; p += 16)
    for (uint32_t b = a->block0; b < a->block1; b++) tile(a, b, p);
}
