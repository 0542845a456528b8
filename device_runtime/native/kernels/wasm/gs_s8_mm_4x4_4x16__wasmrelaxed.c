/* Sparse int8 in 4x4 blocks by relaxed dot, for x in 0..127: four rows share a list of groups, eight pixels at a time. */
#include "s8_dot.h"

GS_ALONE static void tile(const gs_mm_args *a, const gs_tame *q, uint32_t block, uint32_t pixel) {
  const gs_packed *w = a->w;
  const int8_t *x = (const int8_t *)a->x + (size_t)pixel * 4;
  const uint32_t *off = w->off + w->start[block], *last = w->off + w->start[block + 1];
  const int8_t *val = (const int8_t *)w->val + (size_t)w->start[block] * 16;
  v128_t acc[4][2];
  gs_dot_bias(acc, w, block);
  for (; off < last; off++, val += 16) gs_dot_rows(acc, wasm_v128_load(x + *off), wasm_v128_load(x + *off + 16), val);
  gs_dot_store(a, q, block, pixel, acc);
}

void gs_s8_mm_4x4_4x16__wasmrelaxed(const gs_mm_args *a) {
  const gs_tame q = gs_tame_make(&a->q);
  for (uint32_t p = 0; p < a->npx; p += 8)
    for (uint32_t b = a->block0; b < a->block1; b++) tile(a, &q, b, p);
}
