/* Depthwise int8 3x3 stride 2 by sdot: a window for every output pixel and kernel row; two output rows share one. */
#include "neondot_dw.h"

typedef struct {
  gs_dwn_window win[4];
  int8x16_t w[3];
} taps;

/* acc[o] of those of n output rows that read input row r. */
GS_DOT_INLINE void row(int32x4_t acc[2][4], const gs_dwn *k, const taps *t, const int8_t *x, const int r, const int n, const int edge,
                       const int plain) {
  int8x16_t px[4];
  GS_UNROLL for (int i = 0; i < 4; i++) px[i] = gs_dwdot_load(k, x, &t->win[i], edge, plain);
  GS_UNROLL for (int o = 0; o < n; o++) {
    const int ky = r - 2 * o;
    if (ky < 0 || ky > 2) continue;
    GS_UNROLL for (int i = 0; i < 4; i++) acc[o][i] = vdotq_s32(ky == 0 ? k->bias : acc[o][i], px[i], t->w[ky]);
  }
}

GS_DOT_INLINE void plain(const gs_dwn *k, const taps *t, const int8_t *x, int64_t x_row, int8_t *y, size_t y_row, const int n, const int edge) {
  int32x4_t acc[2][4];
  GS_UNROLL for (int r = 0; r < 2 * n + 1; r++, x += x_row) row(acc, k, t, x, r, n, edge, 1);
  GS_UNROLL for (int o = 0; o < n; o++) gs_dwn_store(k, y + (size_t)o * y_row, acc[o][0], acc[o][1], acc[o][2], acc[o][3], edge);
}

GS_DOT_INLINE void strip(const gs_dwn *k, uint32_t ox, int64_t first, const int edge) {
  taps t = {.w = {vld1q_s8(k->w), vld1q_s8(k->w + 16), vld1q_s8(k->w + 32)}};
  GS_UNROLL for (int i = 0; i < 4; i++) t.win[i] = gs_dwdot_window_at(k, first, 2 * i, edge);
#define PLAIN(x, y, n) plain(k, &t, x, x_row, y, y_row, n, edge)
#define OTHER(oy, y)                                                                                                    \
  do {                                                                                                                  \
    int32x4_t acc[2][4];                                                                                                \
    GS_UNROLL for (int r = 0; r < 3; r++) row(acc, k, &t, gs_dwn_row(k, (int64_t)(oy) * 2 - k->top + r, first, edge), r, 1, edge, 0);     \
    gs_dwn_store(k, y, acc[0][0], acc[0][1], acc[0][2], acc[0][3], edge);                                               \
  } while (0)
  GS_DWN_ROWS(k, edge, 2, 3, 2, PLAIN, OTHER)
}

GS_DOT void gs_s8_dw_3x3s2__neondot(const gs_dw_args *a) { GS_DWN_STRIPS(strip, 2, 10) }
