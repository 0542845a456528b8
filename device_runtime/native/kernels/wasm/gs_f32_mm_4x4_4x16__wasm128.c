/* Sparse f32 in 4x1 blocks: four rows share a list of columns. */
#include "f32_mm.h"

void gs_f32_mm_4x4_4x16__wasm128(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  for (uint32_t p = 0; p < a->npx; p += 8)
    for (uint32_t b = a->block0; b < a->block1; b++) {
      const uint32_t first = w->start[b];
      gs_f32_four_rows(a, b, p, w->off + first, (const float *)w->val + (size_t)first * 4, w->start[b + 1] - first);
    }
}
