/* Depthwise int8 3x3 by 16 bits: taps meet in pairs in the dot product, two output pixels at a time. */
#ifndef GS_WASM_S8_DW_H
#define GS_WASM_S8_DW_H
#include "wasm.h"

/* One row of outputs: its first input row, and pairs of taps as [lane][tap]. */
typedef struct {
  const int8_t *x;
  size_t x_row;
  v128_t pair[5], bias, scale;
  gs_rqw q;
  int8_t *y;
  uint32_t n;
} gs_s8_line;

/* Tap t of two pixels as int16. */
GS_INLINE v128_t gs_tapw(const gs_s8_line *l, const int8_t *x, const int t, const int stride) {
  const int8_t *xt = x + (size_t)(t / 3) * l->x_row + 4 * (t % 3);
  return stride == 1 ? wasm_i16x8_load8x8(xt) : wasm_i16x8_extend_low_i8x16(wasm_v128_load32_lane(xt + 8, wasm_v128_load32_zero(xt), 1));
}

GS_INLINE void gs_s8_dw_line(const gs_s8_line *l, const int stride) {
  const int8_t *x = l->x;
  int8_t *y = l->y;
  for (uint32_t left = l->n; left != 0; left -= left > 1 ? 2 : 1, x += 8 * stride, y += 8) {
    v128_t first = l->bias, second = l->bias;
    GS_UNROLL for (int t = 0; t < 5; t++) {
      const v128_t even = gs_tapw(l, x, 2 * t, stride), odd = t < 4 ? gs_tapw(l, x, 2 * t + 1, stride) : even;
      first = wasm_i32x4_add(first, wasm_i32x4_dot_i16x8(wasm_i16x8_shuffle(even, odd, 0, 8, 1, 9, 2, 10, 3, 11), l->pair[t]));
      second = wasm_i32x4_add(second, wasm_i32x4_dot_i16x8(wasm_i16x8_shuffle(even, odd, 4, 12, 5, 13, 6, 14, 7, 15), l->pair[t]));
      GS_HERE(first);
      GS_HERE(second);
    }
    const v128_t words = wasm_i16x8_narrow_i32x4(gs_rqw_acc(first, l->scale, &l->q), gs_rqw_acc(second, l->scale, &l->q));
    const v128_t bytes = wasm_i8x16_narrow_i16x8(words, words);
    if (left > 1) wasm_v128_store64_lane(y, bytes, 0);
    else wasm_v128_store32_lane(y, bytes, 0);
  }
}

GS_INLINE void gs_s8_dw_3x3w(const gs_dw_args *a, void (*line)(const gs_s8_line *), const int stride) {
  const int16_t *w = a->w;
  gs_s8_line l = {.x_row = a->x_row, .bias = wasm_v128_load(a->bias), .scale = wasm_v128_load(a->q.scale), .q = gs_rqw_make(&a->q), .n = a->ow};
  GS_UNROLL for (int t = 0; t < 5; t++) {
    const v128_t even = wasm_v128_load64_zero(w + 8 * t);
    const v128_t odd = t < 4 ? wasm_v128_load64_zero(w + 8 * t + 4) : wasm_i32x4_const_splat(0);
    l.pair[t] = wasm_i16x8_shuffle(even, odd, 0, 8, 1, 9, 2, 10, 3, 11);
  }
  for (uint32_t oy = 0; oy < a->oh; oy++) {
    l.x = (const int8_t *)a->x + (size_t)oy * (size_t)stride * a->x_row;
    l.y = (int8_t *)a->y + (size_t)oy * a->ow * 4;
    line(&l);
  }
}

#define GS_S8_DW_3X3(name, stride)                                             \
  GS_ALONE static void line(const gs_s8_line *l) { gs_s8_dw_line(l, stride); } \
  void name(const gs_dw_args *a) { gs_s8_dw_3x3w(a, line, stride); }
#endif
