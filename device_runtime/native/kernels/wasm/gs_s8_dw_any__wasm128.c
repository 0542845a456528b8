/* Depthwise int8, any window, stride, dilation and 16-bit weight: one pixel of four lanes at a time. */
#include "wasm.h"

void gs_s8_dw_any__wasm128(const gs_dw_args *a) {
  const gs_rqw q = gs_rqw_make(&a->q);
  const v128_t bias = wasm_v128_load(a->bias), scale = wasm_v128_load(a->q.scale);
  for (uint32_t oy = 0; oy < a->oh; oy++)
    for (uint32_t ox = 0; ox < a->ow; ox++) {
      const int8_t *x = (const int8_t *)a->x + (size_t)oy * a->sh * a->x_row + (size_t)ox * a->sw * 4;
      const int16_t *w = a->w;
      v128_t acc = bias;
      for (uint32_t ky = 0; ky < a->kh; ky++)
        for (uint32_t kx = 0; kx < a->kw; kx++, w += 4) {
          const v128_t px = gs_dup4w(x + (size_t)ky * a->dh * a->x_row + (size_t)kx * a->dw * 4);
          acc = wasm_i32x4_add(acc, wasm_i32x4_extmul_low_i16x8(px, wasm_v128_load64_zero(w)));
        }
      gs_store_bytesw((int8_t *)a->y + ((size_t)oy * a->ow + ox) * 4, gs_rqw_acc(acc, scale, &q));
    }
}
