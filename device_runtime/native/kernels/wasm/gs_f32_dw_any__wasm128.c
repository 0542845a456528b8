/* Depthwise f32, any window, stride and dilation: four output pixels at a time, the last one repeated where the row ends. */
#include "wasm.h"

void gs_f32_dw_any__wasm128(const gs_dw_args *a) {
  const v128_t lo = wasm_f32x4_splat(a->lo), hi = wasm_f32x4_splat(a->hi), bias = wasm_v128_load32_splat(a->bias);
  for (uint32_t oy = 0; oy < a->oh; oy++)
    for (uint32_t ox = 0; ox < a->ow; ox += 4) {
      const uint32_t left = a->ow - ox;
      size_t at[4];
      for (uint32_t i = 0; i < 4; i++) at[i] = (size_t)(ox + (i < left ? i : left - 1)) * a->sw;
      const char *x = (const char *)a->x + (size_t)oy * a->sh * a->x_row;
      const float *w = a->w;
      v128_t acc = bias;
      for (uint32_t ky = 0; ky < a->kh; ky++)
        for (uint32_t kx = 0; kx < a->kw; kx++, w++) {
          const float *xt = (const float *)(const void *)(x + (size_t)ky * a->dh * a->x_row) + (size_t)kx * a->dw;
          const v128_t xv = a->sw == 1 ? wasm_v128_load(xt + ox) : wasm_f32x4_make(xt[at[0]], xt[at[1]], xt[at[2]], xt[at[3]]);
          acc = wasm_f32x4_add(acc, wasm_f32x4_mul(xv, wasm_f32x4_splat(*w)));
        }
      acc = wasm_f32x4_pmin(hi, wasm_f32x4_pmax(lo, acc));
      float *y = (float *)a->y + (size_t)oy * a->ow + ox;
      if (left >= 4) {
        wasm_v128_store(y, acc);
        continue;
      }
      float out[4];
      wasm_v128_store(out, acc);
      for (uint32_t i = 0; i < left; i++) y[i] = out[i];
    }
}
