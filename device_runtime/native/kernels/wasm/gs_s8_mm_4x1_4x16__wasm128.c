/* Sparse int8 in 4x1 blocks by 16 bits: four single columns are interleaved on the fly into a group. */
#include "wasm.h"

GS_INLINE void tile(const gs_mm_args *a, uint32_t block, uint32_t pixel) {
  const gs_packed *w = a->w;
  const int8_t *x = (const int8_t *)a->x + (size_t)pixel * 4;
  const uint32_t last = w->start[block + 1];
  uint32_t e = w->start[block];
  const int16_t *val = (const int16_t *)w->val + (size_t)e * 4;
  const gs_rqw q = gs_rqw_make(&a->q);
  v128_t acc[4][2];
  GS_UNROLL for (int r = 0; r < 4; r++) acc[r][0] = acc[r][1] = wasm_i32x4_const_splat(0);
  for (; e < last; e += 4, val += 16) {
    const v128_t px = gs_gatherw(x, w->off + e);
    const v128_t x0 = wasm_i16x8_extend_low_i8x16(px), x1 = wasm_i16x8_extend_high_i8x16(px);
    GS_UNROLL for (int r = 0; r < 4; r++) {
      const v128_t wv = wasm_v128_load64_splat(val + 4 * r);
      acc[r][0] = wasm_i32x4_add(acc[r][0], wasm_i32x4_dot_i16x8(x0, wv));
      acc[r][1] = wasm_i32x4_add(acc[r][1], wasm_i32x4_dot_i16x8(x1, wv));
    }
  }
  const int32_t *bias = (const int32_t *)w->bias + (size_t)block * 4;
  const float *scale = a->q.scale + (size_t)block * 4;
  v128_t out[4];
  GS_UNROLL for (int r = 0; r < 4; r++)
    out[r] = gs_rqw_acc(wasm_i32x4_add(gs_pairsw(acc[r][0], acc[r][1]), wasm_i32x4_splat(bias[r])), wasm_f32x4_splat(scale[r]), &q);
  wasm_v128_store((int8_t *)a->y + (size_t)block * a->y_stride + (size_t)pixel * 4, gs_quadw(out[0], out[1], out[2], out[3]));
}

void gs_s8_mm_4x1_4x16__wasm128(const gs_mm_args *a) {
  for (uint32_t p = 0; p < a->npx; p += 4)
    for (uint32_t b = a->block0; b < a->block1; b++) tile(a, b, p);
}
