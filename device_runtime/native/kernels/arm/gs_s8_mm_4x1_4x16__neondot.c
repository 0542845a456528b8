/* Sparse int8 in 4x1 blocks by sdot: four single columns are interleaved on the fly into a group. */
#include "neon_4x1.h"
#include "neondot.h"

GS_DOT_INLINE void body(const gs_mm_args *a, const gs_rqn *q, const int relu) {
  const gs_packed *w = a->w;
  for (uint32_t p = 0; p < a->npx; p += 16)
    for (uint32_t b = a->block0; b < a->block1; b++) {
      int32x4_t acc[16];
      GS_TILE_4X1_DOT(acc, (const int32_t *)w->bias + (size_t)b * 4, w, (const char *)a->x + (size_t)p * 4, w->start[b], w->start[b + 1]);
      gs_store16(a, b, p, acc, q, relu);
    }
}

GS_DOT_KERNEL(gs_s8_mm_4x1_4x16__neondot, body)
