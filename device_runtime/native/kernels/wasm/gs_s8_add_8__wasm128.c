/* y = a +- b of two int8 tensors with their own scales, in fixed point, eight elements at once. */
#include "wasm.h"

GS_INLINE v128_t four(v128_t va, v128_t vb, const gs_binary_s8_args *k) {
  const v128_t products = wasm_i32x4_add(wasm_i32x4_mul(va, wasm_i32x4_splat(k->ma)), wasm_i32x4_mul(vb, wasm_i32x4_splat(k->mb)));
  const v128_t q = wasm_i32x4_shr(wasm_i32x4_add(products, wasm_i32x4_splat(k->bias)), (uint32_t)k->shift);
  return wasm_i32x4_min(wasm_i32x4_max(wasm_i32x4_add(q, wasm_i32x4_splat(k->zo)), wasm_i32x4_splat(k->lo)), wasm_i32x4_splat(k->hi));
}

/* Writes eight elements. */
GS_INLINE void eight(int8_t *y, const int8_t *pa, const int8_t *pb, const gs_binary_s8_args *k) {
  const v128_t va = wasm_i16x8_load8x8(pa), vb = wasm_i16x8_load8x8(pb);
  const v128_t low = four(wasm_i32x4_extend_low_i16x8(va), wasm_i32x4_extend_low_i16x8(vb), k);
  const v128_t high = four(wasm_i32x4_extend_high_i16x8(va), wasm_i32x4_extend_high_i16x8(vb), k);
  const v128_t words = wasm_i16x8_narrow_i32x4(low, high);
  wasm_v128_store64_lane(y, wasm_i8x16_narrow_i16x8(words, words), 0);
}

void gs_s8_add_8__wasm128(const gs_binary_s8_args *a) {
  size_t i = 0;
  for (; i + 8 <= a->n; i += 8) eight(a->y + i, a->a + i, a->b + i, a);
  if (i < a->n) {
    int8_t va[8] = {0}, vb[8] = {0};
    memcpy(va, a->a + i, a->n - i);
    memcpy(vb, a->b + i, a->n - i);
    eight(va, va, vb, a);
    memcpy(a->y + i, va, a->n - i);
  }
}
