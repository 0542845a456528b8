/* int8 matrix products by i32x4.relaxed_dot_i8x16_i7x16_add_s: four weights times four lanes of a pixel, four pixels at once.
 * Its second operand is x: exact on every engine for 0..127 (x_bits 7), and for x + 128 as an unsigned byte (x_offset 128) on
 * engines that src/cpu.c finds to take all eight bits. */
#ifndef GS_WASM_S8_DOT_H
#define GS_WASM_S8_DOT_H
#include "wasm.h"

#define GS_DOT(w, x, acc) wasm_i32x4_relaxed_dot_i8x16_i7x16_add(w, x, acc)

/* Four rows with groups of their own, nv vectors of four pixels. */
GS_INLINE void gs_dot_own_rows(const gs_mm_args *a, const gs_tame *q, uint32_t block, uint32_t pixel, const int nv) {
  const gs_packed *w = a->w;
  const int8_t *x = (const int8_t *)a->x + (size_t)pixel * 4;
  const uint32_t *start = w->start + (size_t)block * 4, *off = w->off + start[0];
  const int32_t *bias = (const int32_t *)w->bias + (size_t)block * 4;
  const float *scale = a->q.scale + (size_t)block * 4;
  const int8_t *val = (const int8_t *)w->val + (size_t)start[0] * 4;
  int8_t out[4][32];
  GS_ROLLED for (uint32_t r = 0; r < 4; r++) {
    v128_t acc[8];
    GS_UNROLL for (int v = 0; v < nv; v++) acc[v] = wasm_v128_load32_splat(bias + r);
    for (uint32_t n = start[r + 1] - start[r]; n != 0; n--, off++, val += 4) {
      const int8_t *xe = x + *off;
      const v128_t wv = wasm_v128_load32_splat(val);
      GS_UNROLL for (int v = nv - 1; v >= 0; v--) {
        acc[v] = GS_DOT(wv, wasm_v128_load(xe + 16 * v), acc[v]);
        GS_HERE(acc[v]);
      }
    }
    const v128_t s = wasm_v128_load32_splat(scale + r), scales[4] = {s, s, s, s};
    GS_UNROLL for (int v = 0; v < nv; v += 4) wasm_v128_store(out[r] + 4 * v, gs_tame_bytes(acc + v, scales, q));
  }
  int8_t *y = (int8_t *)a->y + (size_t)block * a->y_stride + (size_t)pixel * 4;
  GS_UNROLL for (int i = 0; i < 4 * nv; i += 16) gs_lanesw(y + 4 * i, out[0] + i, out[1] + i, out[2] + i, out[3] + i);
}

/* acc[r] = the bias of row r, for eight pixels. */
GS_INLINE void gs_dot_bias(v128_t acc[4][2], const gs_packed *w, uint32_t block) {
  GS_UNROLL for (int r = 0; r < 4; r++) acc[r][0] = acc[r][1] = wasm_v128_load32_splat((const int32_t *)w->bias + (size_t)block * 4 + r);
}

/* acc[r] += eight pixels times four weights of row r. */
GS_INLINE void gs_dot_rows(v128_t acc[4][2], v128_t x0, v128_t x1, const int8_t *val) {
  GS_UNROLL for (int r = 0; r < 4; r++) {
    const v128_t wv = wasm_v128_load32_splat(val + 4 * r);
    acc[r][0] = GS_DOT(wv, x0, acc[r][0]);
    acc[r][1] = GS_DOT(wv, x1, acc[r][1]);
  }
}

/* Requantisation and store of eight pixels of four rows. */
GS_INLINE void gs_dot_store(const gs_mm_args *a, const gs_tame *q, uint32_t block, uint32_t pixel, v128_t acc[4][2]) {
  const float *scale = a->q.scale + (size_t)block * 4;
  int8_t *y = (int8_t *)a->y + (size_t)block * a->y_stride + (size_t)pixel * 4;
  v128_t s[4];
  GS_UNROLL for (int r = 0; r < 4; r++) s[r] = wasm_v128_load32_splat(scale + r);
  GS_UNROLL for (int v = 0; v < 2; v++) {
    const v128_t four[4] = {acc[0][v], acc[1][v], acc[2][v], acc[3][v]};
    const v128_t b = gs_tame_bytes(four, s, q);
    wasm_v128_store(y + 16 * v, wasm_i8x16_shuffle(b, b, 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  }
}
#endif
