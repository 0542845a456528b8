/* Depthwise int8 3x3 stride 1 by sdot. A window serves two neighbouring output pixels, by the same weights one byte up, and up to
 * three output rows: two are made at a time. */
#include "neondot_dw.h"

/* One or two output rows; `plain`: no window reaches over an edge of the plane. */
GS_DOT_INLINE void rows(const gs_dw_args *a, uint32_t oy, uint32_t ox, const gs_dwn_window win[2], const int8x16_t w[3],
                        const int8x16_t w_up[3], const gs_rqn *q, const int n, const int plain) {
  const gs_dwn_weights *p = a->packed;
  const int32x4_t bias = vld1q_s32(p->bias);
  const float32x4_t scale = vld1q_f32(p->scale);
  const int8x16_t pad = vreinterpretq_s8_u32(vdupq_n_u32(a->pad));
  const int64_t iy = (int64_t)oy - a->top;
  int32x4_t acc[2][4];
  GS_UNROLL for (int o = 0; o < n; o++) GS_UNROLL for (int i = 0; i < 4; i++) acc[o][i] = bias;
  GS_UNROLL for (int r = 0; r < n + 2; r++) {
    const int8_t *row = plain ? (const int8_t *)a->x + (iy + r) * (int64_t)a->x_row : gs_dwn_row(a, iy + r);
    const int8x16_t t0 = gs_dwdot_load(a, row, &win[0], pad), t1 = gs_dwdot_load(a, row, &win[1], pad);
    GS_UNROLL for (int o = 0; o < n; o++) {
      const int ky = r - o;
      if (ky < 0 || ky > 2) continue;
      acc[o][0] = vdotq_s32(acc[o][0], t0, w[ky]);
      acc[o][1] = vdotq_s32(acc[o][1], t0, w_up[ky]);
      acc[o][2] = vdotq_s32(acc[o][2], t1, w[ky]);
      acc[o][3] = vdotq_s32(acc[o][3], t1, w_up[ky]);
    }
  }
  GS_UNROLL for (int o = 0; o < n; o++)
    gs_dwn_store(a, oy + (uint32_t)o, ox, gs_rqn_16(acc[o][0], acc[o][1], acc[o][2], acc[o][3], scale, q));
}

GS_DOT_INLINE void strip(const gs_dw_args *a, uint32_t ox, const int edge) {
  const gs_dwn_weights *p = a->packed;
  const gs_rqn q = gs_rqn_make(&a->q);
  const int64_t first = (int64_t)ox - a->left;
  gs_dwn_window win[2] = {gs_dwdot_window_at(a, first, edge), gs_dwdot_window_at(a, first + 2, edge)};
  int8x16_t w[3], w_up[3];
  GS_UNROLL for (int ky = 0; ky < 3; ky++) {
    w[ky] = vld1q_s8(p->w[ky]);
    w_up[ky] = vreinterpretq_s8_u32(vshlq_n_u32(vreinterpretq_u32_s8(w[ky]), 8));
  }
  uint32_t oy = 0;
  for (; oy + 2 <= a->oh; oy += 2) {
    const int64_t iy = (int64_t)oy - a->top;
    if (iy >= 0 && iy + 4 <= a->ih) rows(a, oy, ox, win, w, w_up, &q, 2, 1);
    else rows(a, oy, ox, win, w, w_up, &q, 2, 0);
  }
  if (oy < a->oh) rows(a, oy, ox, win, w, w_up, &q, 1, 0);
}

GS_DOT void gs_s8_dw_3x3s1__neondot(const gs_dw_args *a) { GS_DWN_STRIPS(strip, 1, 6) }
