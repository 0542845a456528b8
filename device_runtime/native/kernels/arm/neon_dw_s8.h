/* Depthwise int8 3x3 and 5x5 by smull, smlal, saddw: two taps in 16 bits (2 * 127 * 128 fits), then into 32. */
#ifndef GS_ARM_NEON_DW_S8_H
#define GS_ARM_NEON_DW_S8_H
#include "neon_dw.h"

typedef struct {
  gs_dwn_window win[GS_DWN_WINDOWS];
} gs_dwn_s8;

GS_INLINE gs_dwn_s8 gs_dwn_s8_of(const gs_dwn *k, int64_t first, const int taps, const int stride, const int edge) {
  gs_dwn_s8 t;
  GS_UNROLL for (int i = 0; i < gs_dwn_windows(taps, stride); i++) t.win[i] = gs_dwn_window_at(k, first, gs_dwn_column(i, stride), edge);
  return t;
}

/* acc += taps x0 and x1 (NULL: x0 alone). */
GS_INLINE void gs_dwn_pair(int32x4x4_t *acc, int8x16_t x0, int8x8_t w0, const int8x16_t *x1, int8x8_t w1) {
  int16x8_t low = vmull_s8(vget_low_s8(x0), w0), high = vmull_s8(vget_high_s8(x0), w0);
  if (x1 != NULL) {
    low = vmlal_s8(low, vget_low_s8(*x1), w1);
    high = vmlal_s8(high, vget_high_s8(*x1), w1);
  }
  acc->val[0] = vaddw_s16(acc->val[0], vget_low_s16(low));
  acc->val[1] = vaddw_s16(acc->val[1], vget_high_s16(low));
  acc->val[2] = vaddw_s16(acc->val[2], vget_low_s16(high));
  acc->val[3] = vaddw_s16(acc->val[3], vget_high_s16(high));
}

/* One output row of a strip; unless `plain`, rows of x that are NULL are padding. */
GS_INLINE void gs_dwn_out_s8(const gs_dwn *k, const gs_dwn_s8 *t, const int8_t *const rows[5], int8_t *y, const int taps, const int stride,
                             const int edge, const int plain, const int relu) {
  const int8_t *w = k->w;
  if (edge) gs_dwn_again(&w);
  int32x4x4_t acc = {{vld1q_s32(k->bias), vld1q_s32(k->bias), vld1q_s32(k->bias), vld1q_s32(k->bias)}};
  int8x16_t x[25];
  GS_UNROLL for (int ky = 0; ky < taps; ky++) {
    int8x16_t *row = x + taps * ky;
    if (taps == 5) gs_dwn_apart(&w);
    if (plain || rows[ky] != NULL) {
      gs_dwn_taps(k, rows[ky], t->win, taps, stride, edge, row);
    } else {
      GS_UNROLL for (int kx = 0; kx < taps; kx++) row[kx] = k->pad;
    }
    if (taps == 3) continue;
    const int8_t *wr = w + 4 * taps * ky;
    GS_UNROLL for (int kx = 0; kx + 1 < taps; kx += 2) gs_dwn_pair(&acc, row[kx], gs_dup4(wr + 4 * kx), &row[kx + 1], gs_dup4(wr + 4 * kx + 4));
    gs_dwn_pair(&acc, row[4], gs_dup4(wr + 16), NULL, gs_dup4(wr + 16));
  }
  if (taps == 3) { /* nine taps are five pairs: rows do not matter */
    GS_UNROLL for (int i = 0; i + 1 < 9; i += 2) gs_dwn_pair(&acc, x[i], gs_dup4(w + 4 * i), &x[i + 1], gs_dup4(w + 4 * i + 4));
    gs_dwn_pair(&acc, x[8], gs_dup4(w + 32), NULL, gs_dup4(w + 32));
  }
  gs_dwn_store(k, y, acc, edge, relu);
}

GS_INLINE void gs_dwn_plain_s8(const gs_dwn *k, const gs_dwn_s8 *t, const int8_t *x, int64_t x_row, int8_t *y, const int taps, const int stride,
                               const int edge, const int relu) {
  const int8_t *const rows[5] = {x, x + x_row, x + 2 * x_row, x + 3 * x_row, x + 4 * x_row};
  gs_dwn_out_s8(k, t, rows, y, taps, stride, edge, 1, relu);
}

GS_INLINE void gs_dwn_other_s8(const gs_dwn *k, const gs_dwn_s8 *t, int64_t iy, int64_t first, int8_t *y, const int taps, const int stride,
                               const int edge, const int relu) {
  const int8_t *rows[5] = {NULL, NULL, NULL, NULL, NULL};
  GS_UNROLL for (int ky = 0; ky < taps; ky++) rows[ky] = gs_dwn_row(k, iy + ky, first, edge);
  gs_dwn_out_s8(k, t, rows, y, taps, stride, edge, 0, relu);
}

/* Defines a micro-kernel. */
#define GS_DWN_S8_KERNEL(name, taps_, stride_)                                                                                \
  enum { taps = taps_, stride = stride_ };                                                                                   \
  static __attribute__((noinline)) void narrow(const gs_dw_args *a, uint32_t oy, uint32_t ox, int64_t first) {               \
    const gs_dwn k = gs_dwn_make(a);                                                                                         \
    const gs_dwn_s8 t = gs_dwn_s8_of(&k, first, taps, stride, 2);                                                            \
    gs_dwn_other_s8(&k, &t, (int64_t)oy * stride - k.top, first, k.y + ((size_t)oy * k.ow + ox) * 4, taps, stride, 2, 0);    \
  }                                                                                                                          \
  GS_INLINE void strip(const gs_dwn *k, uint32_t ox, int64_t first, const int edge, const int relu) {                        \
    const gs_dwn_s8 t = gs_dwn_s8_of(k, first, taps, stride, edge);                                                          \
    GS_DWN_ROWS(k, edge, stride, taps, 1, GS_DWN_S8_PLAIN, GS_DWN_S8_OTHER)                                                  \
  }                                                                                                                          \
  void name(const gs_dw_args *a) { GS_DWN_STRIPS(gs_dwn_make, strip, stride, GS_DWN_REACH(taps, stride)) }
#define GS_DWN_S8_PLAIN(x, y, n) gs_dwn_plain_s8(k, &t, x, x_row, y, taps, stride, edge, relu)
#define GS_DWN_S8_OTHER(iy, y) gs_dwn_other_s8(k, &t, iy, first, y, taps, stride, edge, relu)
#endif
