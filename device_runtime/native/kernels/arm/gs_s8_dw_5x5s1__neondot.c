/* Depthwise int8 5x5 stride 1 by sdot: three taps, then two, of a kernel row; a window of either serves two neighbouring output
 * pixels, by the same weights one byte up, and two output rows. */
#include "neondot_dw.h"

typedef struct {
  gs_dwn_window win[4]; /* at columns 0, 2, 3 and 5 */
} taps;

GS_DOT_INLINE int8x16_t up(int8x16_t w) { return vreinterpretq_s8_u32(vshlq_n_u32(vreinterpretq_u32_s8(w), 8)); }

/* acc[o] of those of n output rows that read input row r. */
GS_DOT_INLINE void row(int32x4x4_t acc[2], const gs_dwn *k, const taps *t, const int8_t *x, const int r, const int n, const int edge,
                       const int plain) {
  const int8_t *weights = k->w;
  gs_dwn_apart(&weights);
  const gs_dwn_window *win = gs_dwn_windows_again(t->win, edge);
  int8x16_t px[4];
  GS_UNROLL for (int i = 0; i < 4; i++) px[i] = gs_dwdot_load(k, x, &win[i], edge, plain);
  GS_UNROLL for (int o = 0; o < n; o++) {
    const int ky = r - o;
    if (ky < 0 || ky > 4) continue;
    if (ky == 0) acc[o] = vld1q_s32_x4(k->bias);
    const int8x16_t three = vld1q_s8(weights + 32 * ky), two = vld1q_s8(weights + 32 * ky + 16);
    acc[o].val[0] = vdotq_s32(vdotq_s32(acc[o].val[0], px[0], three), px[2], two);
    acc[o].val[1] = vdotq_s32(vdotq_s32(acc[o].val[1], px[0], up(three)), px[2], up(two));
    acc[o].val[2] = vdotq_s32(vdotq_s32(acc[o].val[2], px[1], three), px[3], two);
    acc[o].val[3] = vdotq_s32(vdotq_s32(acc[o].val[3], px[1], up(three)), px[3], up(two));
  }
}

GS_DOT_INLINE void plain(const gs_dwn *k, const taps *t, const int8_t *x, int64_t x_row, int8_t *y, size_t y_row, const int n,
                         const int edge, const int relu) {
  int32x4x4_t acc[2];
  GS_UNROLL for (int r = 0; r < n + 4; r++, x += x_row) {
    row(acc, k, t, x, r, n, edge, 1);
    if (r < 4) continue;
    gs_dwn_store(k, y, acc[r - 4], edge, relu);
    y += y_row;
  }
}

GS_DOT_INLINE void other(const gs_dwn *k, const taps *t, int64_t iy, int64_t first, int8_t *y, const int edge, const int relu) {
  int32x4x4_t acc[2];
  GS_UNROLL for (int r = 0; r < 5; r++) row(acc, k, t, gs_dwn_row(k, iy + r, first, edge), r, 1, edge, 0);
  gs_dwn_store(k, y, acc[0], edge, relu);
}

GS_DOT_INLINE taps taps_of(const gs_dwn *k, int64_t first, const int edge) {
  const taps t = {.win = {gs_dwdot_window_at(k, first, 0, edge), gs_dwdot_window_at(k, first, 2, edge),
                          gs_dwdot_window_at(k, first, 3, edge), gs_dwdot_window_at(k, first, 5, edge)}};
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
  GS_DWN_ROWS(k, edge, 1, 5, edge ? 1 : 2, PLAIN, OTHER)
}

GS_DOT void gs_s8_dw_5x5s1__neondot(const gs_dw_args *a) { GS_DWN_STRIPS(gs_dwn_make, strip, 1, 9) }
