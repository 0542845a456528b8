/* Depthwise int8 3x3 stride 1 by sdot. A window serves two neighbouring output pixels, by the same weights one byte up, and up to
 * three output rows: four are made at a time. */
#include "neondot_dw.h"

typedef struct {
  gs_dwn_window win[2];
  int8x16_t w[3], w_up[3];
} taps;

/* acc[o] of those of n output rows that read input row r. */
GS_DOT_INLINE void row(int32x4_t acc[4][4], const gs_dwn *k, const taps *t, const int8_t *x, const int r, const int n, const int edge,
                       const int plain) {
  const int8x16_t x0 = gs_dwdot_load(k, x, &t->win[0], edge, plain), x1 = gs_dwdot_load(k, x, &t->win[1], edge, plain);
  GS_UNROLL for (int o = 0; o < n; o++) {
    const int ky = r - o;
    if (ky < 0 || ky > 2) continue;
    acc[o][0] = vdotq_s32(ky == 0 ? k->bias : acc[o][0], x0, t->w[ky]);
    acc[o][1] = vdotq_s32(ky == 0 ? k->bias : acc[o][1], x0, t->w_up[ky]);
    acc[o][2] = vdotq_s32(ky == 0 ? k->bias : acc[o][2], x1, t->w[ky]);
    acc[o][3] = vdotq_s32(ky == 0 ? k->bias : acc[o][3], x1, t->w_up[ky]);
  }
}

GS_DOT_INLINE void plain(const gs_dwn *k, const taps *t, const int8_t *x, int64_t x_row, int8_t *y, size_t y_row, const int n, const int edge) {
  int32x4_t acc[4][4];
  GS_UNROLL for (int r = 0; r < n + 2; r++, x += x_row) {
    row(acc, k, t, x, r, n, edge, 1);
    if (r < 2) continue;
    gs_dwn_store(k, y, acc[r - 2][0], acc[r - 2][1], acc[r - 2][2], acc[r - 2][3], edge);
    y += y_row;
  }
}

GS_DOT_INLINE void strip(const gs_dwn *k, uint32_t ox, int64_t first, const int edge) {
  taps t = {.win = {gs_dwdot_window_at(k, first, 0, edge), gs_dwdot_window_at(k, first, 2, edge)}};
  GS_UNROLL for (int ky = 0; ky < 3; ky++) {
    t.w[ky] = vld1q_s8(k->w + 16 * ky);
    t.w_up[ky] = vreinterpretq_s8_u32(vshlq_n_u32(vreinterpretq_u32_s8(t.w[ky]), 8));
  }
#define PLAIN(x, y, n) plain(k, &t, x, x_row, y, y_row, n, edge)
#define OTHER(oy, y)                                                                                                  \
  do {                                                                                                                \
    int32x4_t acc[4][4];                                                                                              \
    GS_UNROLL for (int r = 0; r < 3; r++) row(acc, k, &t, gs_dwn_row(k, (int64_t)(oy) - k->top + r, first, edge), r, 1, edge, 0);       \
    gs_dwn_store(k, y, acc[0][0], acc[0][1], acc[0][2], acc[0][3], edge);                                             \
  } while (0)
  GS_DWN_ROWS(k, edge, 1, 3, 4, PLAIN, OTHER)
}

GS_DOT void gs_s8_dw_3x3s1__neondot(const gs_dw_args *a) { GS_DWN_STRIPS(strip, 1, 6) }
