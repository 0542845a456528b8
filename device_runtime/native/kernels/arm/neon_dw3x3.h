/* Depthwise int8 3x3 by smull, smlal, saddw: two taps in 16 bits (2 * 127 * 128 fits), then into 32. */
#ifndef GS_ARM_NEON_DW3X3_H
#define GS_ARM_NEON_DW3X3_H
#include "neon_dw.h"

/* One output row of a strip; unless `plain`, rows of x that are NULL are padding. */
GS_INLINE void gs_s8_dw_3x3n_row(const gs_dwn *k, const int8_t *const rows[3], const gs_dwn_window win[4], const int8x16_t w[9], int8_t *y,
                                 const int stride, const int edge, const int plain, const int relu) {
  int8x16_t x[9], again[9];
  if (edge) { /* windows at an edge take registers that nine weights would keep: load them again */
    const int8_t *from = k->w;
    __asm__("" : "+r"(from));
    GS_UNROLL for (int t = 0; t < 9; t++) again[t] = vreinterpretq_s8_s32(vld1q_dup_s32((const int32_t *)(const void *)(from + 4 * t)));
    w = again;
  }
  GS_UNROLL for (int ky = 0; ky < 3; ky++) {
    if (plain || rows[ky] != NULL) gs_dwn_taps3(k, rows[ky], win, stride, edge, x + 3 * ky);
    else x[3 * ky] = x[3 * ky + 1] = x[3 * ky + 2] = k->pad;
  }
  int32x4x4_t acc = {{vld1q_s32(k->bias), vld1q_s32(k->bias), vld1q_s32(k->bias), vld1q_s32(k->bias)}};
  GS_UNROLL for (int t = 0; t < 9; t += 2) {
    int16x8_t low = vmull_s8(vget_low_s8(x[t]), vget_low_s8(w[t]));
    int16x8_t high = vmull_s8(vget_high_s8(x[t]), vget_high_s8(w[t]));
    if (t + 1 < 9) {
      low = vmlal_s8(low, vget_low_s8(x[t + 1]), vget_low_s8(w[t + 1]));
      high = vmlal_s8(high, vget_high_s8(x[t + 1]), vget_high_s8(w[t + 1]));
    }
    acc.val[0] = vaddw_s16(acc.val[0], vget_low_s16(low));
    acc.val[1] = vaddw_s16(acc.val[1], vget_high_s16(low));
    acc.val[2] = vaddw_s16(acc.val[2], vget_low_s16(high));
    acc.val[3] = vaddw_s16(acc.val[3], vget_high_s16(high));
  }
  gs_dwn_store(k, y, acc, edge, relu);
}

GS_INLINE void gs_s8_dw_3x3n_other(const gs_dwn *k, int64_t iy, int64_t first, const gs_dwn_window win[4], const int8x16_t w[9], int8_t *y,
                                   const int stride, const int edge, const int relu) {
  const int8_t *const rows[3] = {gs_dwn_row(k, iy, first, edge), gs_dwn_row(k, iy + 1, first, edge), gs_dwn_row(k, iy + 2, first, edge)};
  gs_s8_dw_3x3n_row(k, rows, win, w, y, stride, edge, 0, relu);
}

typedef struct {
  int8x16_t w[9];
  gs_dwn_window win[4];
} gs_dwn_taps9;

GS_INLINE gs_dwn_taps9 gs_dwn_taps9_of(const gs_dwn *k, int64_t first, const int stride, const int edge) {
  gs_dwn_taps9 t;
  GS_UNROLL for (int i = 0; i < 9; i++) t.w[i] = vcombine_s8(gs_dup4(k->w + 4 * i), gs_dup4(k->w + 4 * i));
  GS_UNROLL for (int i = 0; i < 4; i++) t.win[i] = gs_dwn_window_at(k, first, stride == 1 ? i : 4 * (i % 2) + i / 2, edge);
  return t;
}

/* One row of a strip, where the plane is narrower than a window: rare, and out of the way of the other loops' registers. */
GS_INLINE void gs_s8_dw_3x3n_narrow(const gs_dw_args *a, uint32_t oy, uint32_t ox, int64_t first, const int stride) {
  const gs_dwn k = gs_dwn_make(a);
  const gs_dwn_taps9 t = gs_dwn_taps9_of(&k, first, stride, 2);
  gs_s8_dw_3x3n_other(&k, (int64_t)oy * stride - k.top, first, t.win, t.w, k.y + ((size_t)oy * k.ow + ox) * 4, stride, 2, 0);
}

GS_INLINE void gs_s8_dw_3x3n_strip(const gs_dwn *k, uint32_t ox, int64_t first, const int stride, const int edge, const int relu) {
  const gs_dwn_taps9 t = gs_dwn_taps9_of(k, first, stride, edge);
#define PLAIN(x, y, n)                                                       \
  do {                                                                       \
    const int8_t *const three[3] = {x, (x) + x_row, (x) + 2 * x_row};        \
    gs_s8_dw_3x3n_row(k, three, t.win, t.w, y, stride, edge, 1, relu);       \
  } while (0)
#define OTHER(iy, y) gs_s8_dw_3x3n_other(k, iy, first, t.win, t.w, y, stride, edge, relu)
  GS_DWN_ROWS(k, edge, stride, 3, 1, PLAIN, OTHER)
#undef PLAIN
#undef OTHER
}
#endif
