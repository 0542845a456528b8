/* y = a - b of two int8 tensors with their own scales, eight elements at once. */
#include "wasm.h"

GS_INLINE v128_t four(v128_t va, v128_t vb, const gs_binary_s8_args *k, const gs_rqw *q) {
  const v128_t fa = wasm_f32x4_mul(wasm_f32x4_convert_i32x4(va), wasm_f32x4_splat(k->ra));
  const v128_t fb = wasm_f32x4_mul(wasm_f32x4_convert_i32x4(vb), wasm_f32x4_splat(k->rb));
  return gs_rqw_round(wasm_f32x4_sub(fa, fb), q);
}

/* Writes eight elements. */
GS_INLINE void eight(int8_t *y, const int8_t *pa, const int8_t *pb, const gs_binary_s8_args *k, const gs_rqw *q) {
  const v128_t va = wasm_i16x8_sub(wasm_i16x8_load8x8(pa), wasm_i16x8_splat((int16_t)k->za));
  const v128_t vb = wasm_i16x8_sub(wasm_i16x8_load8x8(pb), wasm_i16x8_splat((int16_t)k->zb));
  const v128_t low = four(wasm_i32x4_extend_low_i16x8(va), wasm_i32x4_extend_low_i16x8(vb), k, q);
  const v128_t high = four(wasm_i32x4_extend_high_i16x8(va), wasm_i32x4_extend_high_i16x8(vb), k, q);
  const v128_t words = wasm_i16x8_narrow_i32x4(low, high);
  wasm_v128_store64_lane(y, wasm_i8x16_narrow_i16x8(words, words), 0);
}

void gs_s8_sub_8__wasm128(const gs_binary_s8_args *a) {
  const gs_requant rq = {NULL, a->zo, a->lo, a->hi};
  const gs_rqw q = gs_rqw_make(&rq);
  size_t i = 0;
  for (; i + 8 <= a->n; i += 8) eight(a->y + i, a->a + i, a->b + i, a, &q);
  if (i < a->n) {
    int8_t va[8] = {0}, vb[8] = {0};
    memcpy(va, a->a + i, a->n - i);
    memcpy(vb, a->b + i, a->n - i);
    eight(va, va, vb, a, &q);
    memcpy(a->y + i, va, a->n - i);
  }
}
