/* Dense f32 by relaxed madd: four rows times eight pixels at a time. */
#define GS_RELAXED
#include "f32_mm.h"

void gs_f32_mm_dense_4x16__wasmrelaxed(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  for (uint32_t p = 0; p < a->npx; p += 8)
    for (uint32_t b = a->block0; b < a->block1; b++)
      gs_f32_four_rows(a, b, p, NULL, (const float *)w->val + (size_t)b * w->groups * 4, w->groups);
}
