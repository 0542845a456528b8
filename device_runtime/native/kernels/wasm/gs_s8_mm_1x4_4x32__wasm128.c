/* Sparse int8 in 1x4 blocks by 16 bits: every row has its own groups; 32 pixels at a time, then 16. */
#include "s8_mm.h"

/* One row of nv vectors of four pixels, requantised to bytes in out. */
GS_INLINE void row(const gs_mm_args *a, const gs_rqw *q, size_t r, uint32_t pixel, int8_t *out, const int nv) {
  const gs_packed *w = a->w;
  const int8_t *first = (const int8_t *)a->x + (size_t)pixel * 4, *second = first + a->x_stride / 2;
  const uint32_t *off = w->off + w->start[r], *last = w->off + w->start[r + 1];
  const int16_t *val = (const int16_t *)w->val + (size_t)w->start[r] * 4;
  v128_t acc[8];
  GS_UNROLL for (int v = 0; v < nv; v++) acc[v] = wasm_v128_load32_splat((const int32_t *)w->bias + r);
  for (; off < last; off++, val += 4) {
    const int8_t *x01 = first + *off, *x23 = second + *off;
    const v128_t w01 = wasm_v128_load32_splat(val), w23 = wasm_v128_load32_splat(val + 2);
    GS_UNROLL for (int i = 0; i < nv; i++) {
      const int v = (i + 3) % nv; /* V8 11.3 spills least when it starts here: 7.8 ms from the last, 8.4 from the first, 6.6 so */
      acc[v] = wasm_i32x4_add(acc[v], wasm_i32x4_dot_i16x8(wasm_v128_load(x01 + 16 * v), w01));
      GS_HERE(acc[v]);
      acc[v] = wasm_i32x4_add(acc[v], wasm_i32x4_dot_i16x8(wasm_v128_load(x23 + 16 * v), w23));
      GS_HERE(acc[v]);
    }
  }
  const v128_t scale = wasm_v128_load32_splat(a->q.scale + r);
  GS_UNROLL for (int v = 0; v < nv; v += 4) wasm_v128_store(out + 4 * v, gs_bytesw(acc + v, scale, q));
}

GS_ALONE static void row32(const gs_mm_args *a, const gs_rqw *q, size_t r, uint32_t pixel, int8_t *out) { row(a, q, r, pixel, out, 8); }
GS_ALONE static void row16(const gs_mm_args *a, const gs_rqw *q, size_t r, uint32_t pixel, int8_t *out) { row(a, q, r, pixel, out, 4); }

void gs_s8_mm_1x4_4x32__wasm128(const gs_mm_args *a) { gs_rows_alone(a, row32, row16); }
