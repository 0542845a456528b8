/* Depthwise int8 3x3 stride 1 by sdot. A window serves two neighbouring output pixels, by the same weights one byte up, and up to
 * three output rows: four are made at a time. */
#include "neondot_dw.h"

typedef struct {
  gs_dwn_window win[2];
  int8x16_t w[3], w_up[3];
} taps;

/* acc[o] of those of n output rows that read input row r. */
GS_DOT_INLINE void row(int32x4x4_t acc[4], const gs_dwn *k, const taps *t, const int8_t *x, const int r, const int n, const int edge,
                       const int plain) {
  const int8x16_t x0 = gs_dwdot_load(k, x, &t->win[0], edge, plain), x1 = gs_dwdot_load(k, x, &t->win[1], edge, plain);
  GS_UNROLL for (int o = 0; o < n; o++) {
    const int ky = r - o;
    if (ky < 0 || ky > 2) continue;
    if (ky == 0) acc[o] = vld1q_s32_x4(k->bias);
    acc[o].val[0] = vdotq_s32(acc[o].val[0], x0, t->w[ky]);
    acc[o].val[1] = vdotq_s32(acc[o].val[1], x0, t->w_up[ky]);
    acc[o].val[2] = vdotq_s32(acc[o].val[2], x1, t->w[ky]);
    acc[o].val[3] = vdotq_s32(acc[o].val[3], x1, t->w_up[ky]);
  }
}

GS_DOT_INLINE void plain(const gs_dwn *k, const taps *t, const int8_t *x, int64_t x_row, int8_t *y, size_t y_row, const int n,
                         const int edge, const int relu) {
  int32x4x4_t acc[4];
  GS_UNROLL for (int r = 0; r < n + 2; r++, x += x_row) {
    row(acc, k, t, x, r, n, edge, 1);
    if (r < 2) continue;
    gs_dwn_store(k, y, acc[r - 2], edge, relu);
    y += y_row;
  }
}

GS_DOT_INLINE void other(const gs_dwn *k, const taps *t, int64_t iy, int64_t first, int8_t *y, const int edge, const int relu) {
  int32x4x4_t acc[4];
  GS_UNROLL for (int r = 0; r < 3; r++) row(acc, k, t, gs_dwn_row(k, iy + r, first, edge), r, 1, edge, 0);
  gs_dwn_store(k, y, acc[0], edge, relu);
}

GS_DOT_INLINE taps taps_of(const gs_dwn *k, int64_t first, const int edge) {
  taps t = {.win = {gs_dwdot_window_at(k, first, 0, edge), gs_dwdot_window_at(k, first, 2, edge)}};
  GS_UNROLL for (int ky = 0; ky < 3; ky++) {
    t.w[ky] = vld1q_s8(k->w + 16 * ky);
    t.w_up[ky] = vreinterpretq_s8_u32(vshlq_n_u32(vreinterpretq_u32_s8(t.w[ky]), 8));
  }
  return t;
}

/* One row of a strip, where the plane is narrower than a window: rare, and out of the way of the other loops' registers. */
static __attribute__((noinline)) GS_DOT void narrow(const gs_dw_args *a, uint32_t oy, uint32_t ox, int64_t first) {
  const gs_dwn k = gs_dwn_make(a);
  const taps t = taps_of(&k, first, 2);
  other(&k, &t, (int64_t)oy - k.top, first, k.y + ((size_t)oy * k.ow + ox) * 4, 2, 0);
}

GS_DOT_INLINE void strip(const gs_dwn *k, uint32_t ox, int64_t first, const int edge, const int relu) {
  const taps t = taps_of(k, first, edge);
#define PLAIN(x, y, n) plain(k, &t, x, x_row, y, y_row, n, edge, relu)
#define OTHER(iy, y) other(k, &t, iy, first, y, edge, relu)
  GS_DWN_ROWS(k, edge, 1, 3, 4, PLAIN, OTHER)
}

GS_DOT void gs_s8_dw_3x3s1__neondot(const gs_dw_args *a) { GS_DWN_STRIPS(gs_dwn_make, strip, 1, 6) }
