/* Dense int8 times one vector by 16 bits: eight rows at a time. */
#include "wasm.h"

void gs_s8_mm_dense_8x1__wasm128(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  const gs_rqw q = gs_rqw_make(&a->q);
  const uint32_t padded = (w->rows + 3) / 4 * 4;
  for (uint32_t b = a->block0; b < a->block1; b++) {
    const int8_t *x = a->x, *val = (const int8_t *)w->val + (size_t)b * w->groups * 32;
    v128_t acc[4];
    GS_UNROLL for (int i = 0; i < 4; i++) acc[i] = wasm_i32x4_const_splat(0);
    for (uint32_t g = w->groups; g != 0; g--, x += 4, val += 32) {
      const v128_t xv = gs_dup4w(x);
      GS_UNROLL for (int i = 0; i < 4; i++)
        acc[i] = wasm_i32x4_add(acc[i], wasm_i32x4_dot_i16x8(wasm_i16x8_load8x8(val + 8 * i), xv));
    }
    GS_UNROLL for (int h = 0; h < 2; h++) {
      const size_t row = (size_t)b * 8 + 4 * (size_t)h;
      if (row >= padded) break;
      v128_t sum = wasm_i32x4_add(gs_pairsw(acc[2 * h], acc[2 * h + 1]), wasm_v128_load((const int32_t *)w->bias + row));
      gs_store_bytesw((int8_t *)a->y + row, gs_rqw_acc(sum, wasm_v128_load(a->q.scale + row), &q));
    }
  }
}
