/* Sparse int8 in 1x4 blocks by relaxed dot, for x in 0..127: every row has its own groups; 32 pixels at a time, then 16. */
#include "s8_dot.h"

GS_ALONE static void rows32(const gs_mm_args *a, uint32_t pixel) {
  const gs_tame q = gs_tame_make(&a->q);
  for (uint32_t b = a->block0; b < a->block1; b++) gs_dot_own_rows(a, &q, b, pixel, 8);
}
GS_ALONE static void rows16(const gs_mm_args *a, uint32_t pixel) {
  const gs_tame q = gs_tame_make(&a->q);
  for (uint32_t b = a->block0; b < a->block1; b++) gs_dot_own_rows(a, &q, b, pixel, 4);
}

void gs_s8_mm_1x4_4x32__wasmrelaxed(const gs_mm_args *a) {
  uint32_t p = 0;
  for (; p + 32 <= a->npx; p += 32) rows32(a, p);
  for (; p < a->npx; p += 16) rows16(a, p);
}
