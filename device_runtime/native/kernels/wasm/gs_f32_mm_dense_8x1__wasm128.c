/* Dense f32 times one vector: eight rows at a time. */
#include "f32_mm.h"

GS_INLINE void rows_out(const gs_mm_args *a, uint32_t row, v128_t sum) {
  float out[4];
  wasm_v128_store(out, gs_clampw(a, sum));
  const uint32_t left = a->w->rows - row;
  for (uint32_t r = 0; r < 4 && r < left; r++) ((float *)a->y)[row + r] = out[r];
}

void gs_f32_mm_dense_8x1__wasm128(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  const float *x = a->x;
  for (uint32_t b = a->block0; b < a->block1; b++) {
    const float *val = (const float *)w->val + (size_t)b * w->groups * 8, *bias = (const float *)w->bias + (size_t)b * 8;
    v128_t low = wasm_v128_load(bias), high = wasm_v128_load(bias + 4);
    for (uint32_t k = 0; k < w->groups; k++, val += 8) {
      const v128_t xv = wasm_v128_load32_splat(x + k);
      low = GS_MADD(wasm_v128_load(val), xv, low);
      high = GS_MADD(wasm_v128_load(val + 4), xv, high);
    }
    rows_out(a, b * 8, low);
    if (b * 8 + 4 < w->rows) rows_out(a, b * 8 + 4, high);
  }
}
