/* Depthwise int8 5x5 stride 2 by sdot: four taps of a kernel row, then the fifth, whose window is that of the pixel after next. */
#include "neondot_dw.h"

typedef struct {
  gs_dwn_window win[6]; /* at columns 0, 2, ... 10 */
} taps;

/* acc += input row x times kernel row ky. */
GS_DOT_INLINE void row(int32x4x4_t *acc, const gs_dwn *k, const taps *t, const int8_t *x, const int ky, const int edge, const int plain) {
  const int8_t *weights = k->w;
  gs_dwn_apart(&weights);
  const gs_dwn_window *win = gs_dwn_windows_again(t->win, edge);
  int8x16_t px[6];
  GS_UNROLL for (int i = 0; i < 6; i++) px[i] = gs_dwdot_load(k, x, &win[i], edge, plain);
  const int8x16_t four = vld1q_s8(weights + 32 * ky), one = vld1q_s8(weights + 32 * ky + 16);
  GS_UNROLL for (int i = 0; i < 4; i++) acc->val[i] = vdotq_s32(vdotq_s32(acc->val[i], px[i], four), px[i + 2], one);
}

GS_DOT_INLINE void plain(const gs_dwn *k, const taps *t, const int8_t *x, int64_t x_row, int8_t *y, const int edge, const int relu) {
  int32x4x4_t acc = vld1q_s32_x4(k->bias);
  GS_UNROLL for (int ky = 0; ky < 5; ky++, x += x_row) row(&acc, k, t, x, ky, edge, 1);
  gs_dwn_store(k, y, acc, edge, relu);
}

GS_DOT_INLINE void other(const gs_dwn *k, const taps *t, int64_t iy, int64_t first, int8_t *y, const int edge, const int relu) {
  int32x4x4_t acc = vld1q_s32_x4(k->bias);
  GS_UNROLL for (int ky = 0; ky < 5; ky++) row(&acc, k, t, gs_dwn_row(k, iy + ky, first, edge), ky, edge, 0);
  gs_dwn_store(k, y, acc, edge, relu);
}

GS_DOT_INLINE taps taps_of(const gs_dwn *k, int64_t first, const int edge) {
  taps t;
  GS_UNROLL for (int i = 0; i < 6; i++) t.win[i] = gs_dwdot_window_at(k, first, 2 * i, edge);
  return t;
}

/* One row of a strip, where the plane is narrower than a window: rare, and out of the way of the other loops' registers. */
static __attribute__((noinline)) GS_DOT void narrow(const gs_dw_args *a, uint32_t oy, uint32_t ox, int64_t first) {
  const gs_dwn k = gs_dwn_make(a);
  const taps t = taps_of(&k, first, 2);
  other(&k, &t, (int64_t)oy * 2 - k.top, first, k.y + ((size_t)oy * k.ow + ox) * 4, 2, 0);
}

GS_DOT_INLINE void strip(const gs_dwn *k, uint32_t ox, int64_t first, const int edge, const int relu) {
  const taps t = taps_of(k, first, edge);
#define PLAIN(x, y, n) plain(k, &t, x, x_row, y, edge, relu)
#define OTHER(iy, y) other(k, &t, iy, first, y, edge, relu)
  GS_DWN_ROWS(k, edge, 2, 5, 1, PLAIN, OTHER)
}

GS_DOT void gs_s8_dw_5x5s2__neondot(const gs_dw_args *a) { GS_DWN_STRIPS(gs_dwn_make, strip, 2, 14) }
