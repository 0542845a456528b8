/* Sparse int8 in 4x4 blocks by 16 bits: four rows share a list of groups, eight pixels at a time. */
#include "s8_mm.h"

GS_ALONE static void tile(const gs_mm_args *a, const gs_rqw *q, uint32_t block, uint32_t pixel) {
  const gs_packed *w = a->w;
  const int8_t *first = (const int8_t *)a->x + (size_t)pixel * 4, *second = first + a->x_stride / 2;
  const uint32_t *off = w->off + w->start[block], *last = w->off + w->start[block + 1];
  const int16_t *val = (const int16_t *)w->val + (size_t)w->start[block] * 16;
  v128_t acc[4][2];
  gs_bias_rowsw(acc, w, block);
  for (; off < last; off++, val += 16) gs_rowsw(acc, first + *off, second + *off, val);
  gs_store_rowsw(a, q, block, pixel, acc);
}

void gs_s8_mm_4x4_4x16__wasm128(const gs_mm_args *a) {
  const gs_rqw q = gs_rqw_make(&a->q);
  for (uint32_t p = 0; p < a->npx; p += 8)
    for (uint32_t b = a->block0; b < a->block1; b++) tile(a, &q, b, p);
}
