/* Sparse int8 in 4x1 blocks by 16 bits: two single columns are interleaved on the fly into pairs of lanes. */
#include "s8_mm.h"

/* Two columns of four pixels, each the low or high half of a pair of lanes, side by side. */
GS_INLINE v128_t pairs(const int8_t *x, size_t half, uint32_t off0, uint32_t off1) {
  const v128_t a = wasm_v128_load(x + (off0 & ~3u) + (off0 & 2u ? half : 0)), b = wasm_v128_load(x + (off1 & ~3u) + (off1 & 2u ? half : 0));
  const v128_t low = wasm_i32x4_const_splat(0xffff);
  return wasm_v128_or(wasm_v128_and(wasm_u32x4_shr(a, 16 * (off0 & 1u)), low), wasm_i32x4_shl(wasm_u32x4_shr(b, 16 * (off1 & 1u)), 16));
}

GS_ALONE static void tile(const gs_mm_args *a, const gs_rqw *q, uint32_t block, uint32_t pixel) {
  const gs_packed *w = a->w;
  const int8_t *x = (const int8_t *)a->x + (size_t)pixel * 4;
  const size_t half = a->x_stride / 2;
  const uint32_t *off = w->off + w->start[block], *last = w->off + w->start[block + 1];
  const int16_t *val = (const int16_t *)w->val + (size_t)w->start[block] * 4;
  v128_t acc[4][2];
  gs_bias_rowsw(acc, w, block);
  for (; off < last; off += 4, val += 16)
    GS_UNROLL for (int h = 0; h < 2; h++) {
      const v128_t x0 = pairs(x, half, off[2 * h], off[2 * h + 1]), x1 = pairs(x + 16, half, off[2 * h], off[2 * h + 1]);
      GS_UNROLL for (int r = 0; r < 4; r++) {
        const v128_t wv = wasm_v128_load32_splat(val + 4 * r + 2 * h);
        acc[r][0] = wasm_i32x4_add(acc[r][0], wasm_i32x4_dot_i16x8(x0, wv));
        acc[r][1] = wasm_i32x4_add(acc[r][1], wasm_i32x4_dot_i16x8(x1, wv));
      }
    }
  gs_store_rowsw(a, q, block, pixel, acc);
}

void gs_s8_mm_4x1_4x16__wasm128(const gs_mm_args *a) {
  const gs_rqw q = gs_rqw_make(&a->q);
  for (uint32_t p = 0; p < a->npx; p += 8)
    for (uint32_t b = a->block0; b < a->block1; b++) tile(a, &q, b, p);
}
