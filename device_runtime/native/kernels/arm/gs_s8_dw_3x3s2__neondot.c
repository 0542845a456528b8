/* Depthwise int8 3x3 stride 2 by sdot: a window for every output pixel and kernel row. */
#include "neondot_dw.h"

GS_DOT_INLINE void row(const gs_dw_args *a, uint32_t oy, uint32_t ox, const gs_dwn_window win[4], const gs_rqn *q, const int plain) {
  const gs_dwn_weights *p = a->packed;
  const int32x4_t bias = vld1q_s32(p->bias);
  const int8x16_t pad = vreinterpretq_s8_u32(vdupq_n_u32(a->pad));
  const int64_t iy = (int64_t)oy * 2 - a->top;
  int32x4_t acc[4] = {bias, bias, bias, bias};
  GS_UNROLL for (int ky = 0; ky < 3; ky++) {
    const int8_t *x = plain ? (const int8_t *)a->x + (iy + ky) * (int64_t)a->x_row : gs_dwn_row(a, iy + ky);
    GS_UNROLL for (int i = 0; i < 4; i++) acc[i] = vdotq_s32(acc[i], gs_dwdot_load(a, x, &win[i], pad), vld1q_s8(p->w[ky]));
  }
  gs_dwn_store(a, oy, ox, gs_rqn_16(acc[0], acc[1], acc[2], acc[3], vld1q_f32(p->scale), q));
}

GS_DOT_INLINE void strip(const gs_dw_args *a, uint32_t ox, const int edge) {
  const gs_rqn q = gs_rqn_make(&a->q);
  const int64_t first = (int64_t)ox * 2 - a->left;
  gs_dwn_window win[4];
  GS_UNROLL for (int i = 0; i < 4; i++) win[i] = gs_dwdot_window_at(a, first + 2 * i, edge);
  for (uint32_t oy = 0; oy < a->oh; oy++) {
    const int64_t iy = (int64_t)oy * 2 - a->top;
    if (iy >= 0 && iy + 3 <= a->ih) row(a, oy, ox, win, &q, 1);
    else row(a, oy, ox, win, &q, 0);
  }
}

GS_DOT void gs_s8_dw_3x3s2__neondot(const gs_dw_args *a) { GS_DWN_STRIPS(strip, 2, 10) }
