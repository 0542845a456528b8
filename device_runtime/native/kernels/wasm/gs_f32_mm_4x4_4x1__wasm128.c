/* Sparse f32 in 4x1 blocks times one vector: a column of four rows a step. */
#include "f32_mm.h"

GS_INLINE void rows_out(const gs_mm_args *a, uint32_t row, v128_t sum) {
  float out[4];
  wasm_v128_store(out, gs_clampw(a, sum));
  const uint32_t left = a->w->rows - row;
  for (uint32_t r = 0; r < 4 && r < left; r++) ((float *)a->y)[row + r] = out[r];
}

void gs_f32_mm_4x4_4x1__wasm128(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  const char *x = a->x;
  for (uint32_t b = a->block0; b < a->block1; b++) {
    const uint32_t last = w->start[b + 1];
    v128_t acc = wasm_v128_load((const float *)w->bias + (size_t)b * 4);
    for (uint32_t e = w->start[b]; e < last; e++)
      acc = GS_MADD(wasm_v128_load((const float *)w->val + (size_t)e * 4), wasm_v128_load32_splat(x + w->off[e]), acc);
    rows_out(a, b * 4, acc);
  }
}
