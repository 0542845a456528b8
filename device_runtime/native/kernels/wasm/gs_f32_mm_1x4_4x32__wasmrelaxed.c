/* Unstructured sparse f32 by relaxed madd: every row has its own columns; 32 pixels at a time, then 16. */
#define GS_RELAXED
#include "f32_mm.h"

void gs_f32_mm_1x4_4x32__wasmrelaxed(const gs_mm_args *a) {
  const uint32_t end = a->block1 * 4 < a->w->rows ? a->block1 * 4 : a->w->rows;
  uint32_t p = 0;
  for (; p + 32 <= a->npx; p += 32)
    for (uint32_t r = a->block0 * 4; r < end; r++) gs_f32_one_row(a, r, p, 8);
  for (; p < a->npx; p += 16)
    for (uint32_t r = a->block0 * 4; r < end; r++) gs_f32_one_row(a, r, p, 4);
}
