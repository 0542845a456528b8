/* Sparse int8 in 4x4 blocks by 16 bits: four rows share a list of groups. */
#include "s8_mm.h"

GS_INLINE void tile(const gs_mm_args *a, uint32_t block, uint32_t pixel) {
  const gs_packed *w = a->w;
  const int8_t *x = (const int8_t *)a->x + (size_t)pixel * 4;
  const uint32_t last = w->start[block + 1];
  uint32_t e = w->start[block];
  const int16_t *val = (const int16_t *)w->val + (size_t)e * 16;
  v128_t acc[4][2];
  GS_UNROLL for (int r = 0; r < 4; r++) acc[r][0] = acc[r][1] = wasm_i32x4_const_splat(0);
  for (; e < last; e++, val += 16)
    gs_rowsw(acc, wasm_v128_load(x + w->off[e]), val);
  gs_store_quadw(a, block, pixel, acc);
}

void gs_s8_mm_4x4_4x16__wasm128(const gs_mm_args *a) {
  for (uint32_t p = 0; p < a->npx; p += 4)
    for (uint32_t b = a->block0; b < a->block1; b++) tile(a, b, p);
}
