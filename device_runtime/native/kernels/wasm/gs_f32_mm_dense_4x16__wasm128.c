/* Dense f32: four rows times eight pixels at a time, all pixels of a tile while the rows are near. */
#include "f32_mm.h"

GS_ALONE static void tile(const gs_mm_args *a, uint32_t block, uint32_t pixel) {
  gs_f32_four_rows(a, block, pixel, NULL, (const float *)a->w->val + (size_t)block * a->w->groups * 4, a->w->groups);
}

void gs_f32_mm_dense_4x16__wasm128(const gs_mm_args *a) {
  for (uint32_t b = a->block0; b < a->block1; b++)
    for (uint32_t p = 0; p < a->npx; p += 8) tile(a, b, p);
}
