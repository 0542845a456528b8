/* Packs int8 depthwise weights for relaxed dot (s8_dw_dot.h), for square windows of up to five columns. */
#include "s8_dw_dot.h"

/* Four taps of four lanes (int16, absent ones zero) from tap `first` of a kernel row on, as bytes [lane][tap]. */
static v128_t taps(const int16_t *w, int32_t first, int32_t count) {
  v128_t t[4];
  for (int32_t i = 0; i < 4; i++)
    t[i] = first + i >= 0 && first + i < count ? wasm_v128_load64_zero(w + 4 * (first + i)) : wasm_i32x4_const_splat(0);
  return gs_turnw(wasm_i8x16_narrow_i16x8(wasm_i64x2_shuffle(t[0], t[1], 0, 2), wasm_i64x2_shuffle(t[2], t[3], 0, 2)));
}

void gs_s8_dw_pack__wasmdot(const gs_dw_args *a, void *to) {
  gs_dw_dot *k = to;
  const int16_t *w = a->w;
  const int32_t n = (int32_t)a->kw;
  v128_t sum = wasm_i16x8_const_splat(0);
  for (int32_t r = 0; r < n; r++, w += 4 * n)
    for (int32_t d = 0; d < 2; d++) {
      k->w[r][d] = taps(w, 4 * d, n);
      k->w[r][2 + d] = taps(w, 4 * d - 1, n);
      for (int32_t t = 0; d == 0 && t < n; t++) sum = wasm_i16x8_add(sum, wasm_v128_load64_zero(w + 4 * t));
    }
  k->bias = wasm_i32x4_sub(wasm_v128_load(a->bias), wasm_i32x4_shl(wasm_i32x4_extend_low_i16x8(sum), 7));
  k->scale = wasm_v128_load(a->q.scale);
}
