/* Sparse int8 in 4x4 blocks by sdot: four rows share a list of groups. */
#include "a64_mm.h"
#include "neondot.h"

GS_DOT_INLINE void body(const gs_mm_args *a, const gs_rqn *q, const int relu) {
  const gs_packed *w = a->w;
  for (uint32_t p = 0; p < a->npx; p += 16)
    for (uint32_t b = a->block0; b < a->block1; b++) {
      const int32_t *bias = (const int32_t *)w->bias + (size_t)b * 4;
      int32x4_t acc[16];
      GS_TILE_4X4(acc, int32x4_t, bias, w, (const char *)a->x + (size_t)p * 4, w->start[b], w->start[b + 1], "sdot", "16b", "4b");
      gs_store16(a, b, p, acc, q, relu);
    }
}

GS_DOT_KERNEL(gs_s8_mm_4x4_4x16__neondot, body)
