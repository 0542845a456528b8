/* Depthwise int8 3x3 by smull, smlal, saddw: two taps in 16 bits (2 * 127 * 128 fits), then into 32. */
#ifndef GS_ARM_NEON_DW3X3_H
#define GS_ARM_NEON_DW3X3_H
#include "neon_dw.h"

/* Four pixels of the three taps of a kernel row. */
GS_INLINE void gs_dwn_taps3(const gs_dw_args *a, const int8_t *row, const gs_dwn_window win[4], int8x16_t pad, const int stride,
                            int8x16_t tap[3]) {
  if (row == NULL) {
    tap[0] = tap[1] = tap[2] = pad;
  } else if (stride == 1) {
    GS_UNROLL for (int i = 0; i < 3; i++) tap[i] = gs_dwn_load(a, row, &win[i], pad);
  } else { /* windows at 0, 4, 1 and 5 */
    int32x4_t v[4];
    GS_UNROLL for (int i = 0; i < 4; i++) v[i] = vreinterpretq_s32_s8(gs_dwn_load(a, row, &win[i], pad));
    const int32x4x2_t near = vuzpq_s32(v[0], v[1]), far = vuzpq_s32(v[2], v[3]);
    tap[0] = vreinterpretq_s8_s32(near.val[0]);
    tap[1] = vreinterpretq_s8_s32(near.val[1]);
    tap[2] = vreinterpretq_s8_s32(far.val[1]);
  }
}

GS_INLINE void gs_s8_dw_3x3n_strip(const gs_dw_args *a, uint32_t ox, const int stride, const int edge) {
  const gs_dwn_weights *p = a->packed;
  const gs_rqn q = gs_rqn_make(&a->q);
  const float32x4_t scale = vld1q_f32(p->scale);
  const int32x4_t bias = vld1q_s32(p->bias);
  const int8x16_t pad = vreinterpretq_s8_u32(vdupq_n_u32(a->pad));
  const int64_t first = (int64_t)ox * stride - a->left;
  int8x16_t w[9];
  GS_UNROLL for (int t = 0; t < 9; t++) w[t] = vcombine_s8(gs_dup4(p->w[0] + 4 * t), gs_dup4(p->w[0] + 4 * t));
  gs_dwn_window win[4];
  GS_UNROLL for (int i = 0; i < 4; i++) win[i] = gs_dwn_window_at(a, first + (stride == 1 ? i : 4 * (i % 2) + i / 2), edge);
  for (uint32_t oy = 0; oy < a->oh; oy++) {
    const int64_t iy = (int64_t)oy * stride - a->top;
    int8x16_t x[9];
    GS_UNROLL for (int ky = 0; ky < 3; ky++) gs_dwn_taps3(a, gs_dwn_row(a, iy + ky), win, pad, stride, x + 3 * ky);
    int32x4_t acc[4] = {bias, bias, bias, bias};
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
    gs_dwn_store(a, oy, ox, gs_rqn_16(acc[0], acc[1], acc[2], acc[3], scale, &q));
  }
}
#endif
