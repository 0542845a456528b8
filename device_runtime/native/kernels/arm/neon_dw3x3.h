/* Depthwise int8 3x3 by smull, smlal, saddw: two taps in 16 bits (2 * 127 * 128 fits), then into 32. */
#ifndef GS_ARM_NEON_DW3X3_H
#define GS_ARM_NEON_DW3X3_H
#include "neon_dw.h"

/* Four pixels of the three taps of a kernel row. */
GS_INLINE void gs_dwn_taps3(const gs_dwn *k, const int8_t *row, const gs_dwn_window win[4], const int stride, const int edge, int8x16_t tap[3]) {
  int8x16_t v[4];
  GS_UNROLL for (int i = 0; i < (stride == 1 ? 3 : 4); i++) v[i] = edge ? gs_dwn_take(k, row, &win[i], edge) : vld1q_s8(row + win[i].at);
  if (stride == 1) {
    GS_UNROLL for (int i = 0; i < 3; i++) tap[i] = v[i];
  } else { /* windows at 0, 4, 1 and 5 */
    const int32x4x2_t near = vuzpq_s32(vreinterpretq_s32_s8(v[0]), vreinterpretq_s32_s8(v[1]));
    const int32x4x2_t far = vuzpq_s32(vreinterpretq_s32_s8(v[2]), vreinterpretq_s32_s8(v[3]));
    tap[0] = vreinterpretq_s8_s32(near.val[0]);
    tap[1] = vreinterpretq_s8_s32(near.val[1]);
    tap[2] = vreinterpretq_s8_s32(far.val[1]);
  }
}

/* One output row of a strip; unless `plain`, rows of x that are NULL are padding. */
GS_INLINE void gs_s8_dw_3x3n_row(const gs_dwn *k, const int8_t *const rows[3], const gs_dwn_window win[4], const int8x16_t w[9], int8_t *y,
                                 const int stride, const int edge, const int plain) {
  int8x16_t x[9];
  GS_UNROLL for (int ky = 0; ky < 3; ky++) {
    if (plain || rows[ky] != NULL) gs_dwn_taps3(k, rows[ky], win, stride, edge, x + 3 * ky);
    else x[3 * ky] = x[3 * ky + 1] = x[3 * ky + 2] = k->pad;
  }
  int32x4_t acc[4] = {k->bias, k->bias, k->bias, k->bias};
  GS_UNROLL for (int t = 0; t < 9; t += 2) {
    int16x8_t low = vmull_s8(vget_low_s8(x[t]), vget_low_s8(w[t]));
    int16x8_t high = vmull_s8(vget_high_s8(x[t]), vget_high_s8(w[t]));
    if (t + 1 < 9) {
      low = vmlal_s8(low, vget_low_s8(x[t + 1]), vget_low_s8(w[t + 1]));
      high = vmlal_s8(high, vget_high_s8(x[t + 1]), vget_high_s8(w[t + 1]));
    }
    acc[0] = vaddw_s16(acc[0], vget_low_s16(low));
    acc[1] = vaddw_s16(acc[1], vget_high_s16(low));
    acc[2] = vaddw_s16(acc[2], vget_low_s16(high));
    acc[3] = vaddw_s16(acc[3], vget_high_s16(high));
  }
  gs_dwn_store(k, y, acc[0], acc[1], acc[2], acc[3], edge);
}

GS_INLINE void gs_s8_dw_3x3n_strip(const gs_dwn *k, uint32_t ox, int64_t first, const int stride, const int edge) {
  int8x16_t w[9];
  GS_UNROLL for (int t = 0; t < 9; t++) w[t] = vcombine_s8(gs_dup4(k->w + 4 * t), gs_dup4(k->w + 4 * t));
  gs_dwn_window win[4];
  GS_UNROLL for (int i = 0; i < 4; i++) win[i] = gs_dwn_window_at(k, first, stride == 1 ? i : 4 * (i % 2) + i / 2, edge);
#define PLAIN(x, y, n)                                                       \
  do {                                                                       \
    const int8_t *const three[3] = {x, (x) + x_row, (x) + 2 * x_row};        \
    gs_s8_dw_3x3n_row(k, three, win, w, y, stride, edge, 1);                 \
  } while (0)
#define OTHER(oy, y)                                                                             \
  do {                                                                                           \
    const int64_t iy = (int64_t)(oy) * stride - k->top;                                          \
    const int8_t *const three[3] = {gs_dwn_row(k, iy, first, edge), gs_dwn_row(k, iy + 1, first, edge), \
                                     gs_dwn_row(k, iy + 2, first, edge)};                        \
    gs_s8_dw_3x3n_row(k, three, win, w, y, stride, edge, 0);                                     \
  } while (0)
  GS_DWN_ROWS(k, edge, stride, 3, 1, PLAIN, OTHER)
#undef PLAIN
#undef OTHER
}
#endif
