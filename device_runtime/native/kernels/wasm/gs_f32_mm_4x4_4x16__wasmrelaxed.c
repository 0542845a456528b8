/* Sparse f32 in 4x1 blocks by relaxed madd: four rows share a list of columns. */
#define GS_RELAXED
#include "f32_mm.h"

GS_ALONE static void tile(const gs_mm_args *a, uint32_t block, uint32_t pixel) {
  const gs_packed *w = a->w;
  const uint32_t first = w->start[block];
  gs_f32_four_rows(a, block, pixel, w->off + first, (const float *)w->val + (size_t)first * 4, w->start[block + 1] - first);
}

void gs_f32_mm_4x4_4x16__wasmrelaxed(const gs_mm_args *a) {
  for (uint32_t p = 0; p < a->npx; p += 8)
    for (uint32_t b = a->block0; b < a->block1; b++) tile(a, b, p);
}
