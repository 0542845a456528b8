/* Dense int8 by relaxed dot, for x in 0..127: four rows times eight pixels at a time. */
#include "s8_dot.h"

GS_ALONE static void tile(const gs_mm_args *a, const gs_tame *q, uint32_t block, uint32_t pixel) {
  const gs_packed *w = a->w;
  const int8_t *x = (const int8_t *)a->x + (size_t)pixel * 4, *val = (const int8_t *)w->val + (size_t)block * w->groups * 16;
  v128_t acc[4][2];
  gs_dot_bias(acc, w, block);
  for (uint32_t g = w->groups; g != 0; g--, x += a->x_stride, val += 16) gs_dot_rows(acc, wasm_v128_load(x), wasm_v128_load(x + 16), val);
  gs_dot_store(a, q, block, pixel, acc);
}

void gs_s8_mm_dense_4x16__wasmrelaxed(const gs_mm_args *a) {
  const gs_tame q = gs_tame_make(&a->q);
  for (uint32_t b = a->block0; b < a->block1; b++) /* all pixels of a tile while the rows are near */
    for (uint32_t p = 0; p < a->npx; p += 8) tile(a, &q, b, p);
}
