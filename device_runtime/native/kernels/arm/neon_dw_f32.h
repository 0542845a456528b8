/* Depthwise f32 3x3 and 5x5: the windows of neon_dw.h hold four floats; an input row is read once for the output rows that use it. */
#ifndef GS_ARM_NEON_DW_F32_H
#define GS_ARM_NEON_DW_F32_H
#include "neon_dw.h"

typedef struct {
  const int8_t *w;
  float32x4_t bias, lo, hi;
  gs_dwn_window win[GS_DWN_WINDOWS];
} gs_dwn_f32;

GS_INLINE gs_dwn gs_dwn_make_f32(const gs_dw_args *a) {
  const gs_dwn k = {.x = a->x, .y = a->y, .x_row = (int64_t)a->x_row, .iw = a->iw, .ih = a->ih, .top = a->top, .left = a->left,
                    .oh = a->oh, .ow = a->ow, .pad = vreinterpretq_s8_u32(vdupq_n_u32(a->pad))};
  return k;
}

GS_INLINE gs_dwn_f32 gs_dwn_f32_of(const gs_dw_args *a, const gs_dwn *k, int64_t first, const int taps, const int stride,
                                   const int edge) {
  gs_dwn_f32 t;
  t.w = a->w;
  GS_UNROLL for (int i = 0; i < gs_dwn_windows(taps, stride); i++) t.win[i] = gs_dwn_window_at(k, first, gs_dwn_column(i, stride), edge);
  t.bias = vdupq_n_f32(*(const float *)a->bias);
  t.lo = vdupq_n_f32(a->lo);
  t.hi = vdupq_n_f32(a->hi);
  return t;
}

GS_INLINE void gs_dwn_store_f32(const gs_dwn *k, const gs_dwn_f32 *t, int8_t *y, float32x4_t acc, const int edge) {
  acc = vminq_f32(vmaxq_f32(acc, t->lo), t->hi);
  if (edge < 2 || k->ow >= 4) {
    vst1q_f32((float *)(void *)y, acc);
    return;
  }
  float *to = (float *)(void *)y;
  vst1q_lane_f32(to, acc, 0);
  if (k->ow > 1) vst1q_lane_f32(to + 1, acc, 1);
  if (k->ow > 2) vst1q_lane_f32(to + 2, acc, 2);
}

/* acc[o] of those of n output rows that read input row r, which is padding where x is NULL. */
GS_INLINE void gs_dwn_row_f32(float32x4_t *acc, const gs_dwn *k, const gs_dwn_f32 *t, const int8_t *x, const int r, const int n,
                              const int taps, const int stride, const int edge, const int plain) {
  int8x16_t tap[5] = {k->pad, k->pad, k->pad, k->pad, k->pad};
  const int8_t *weights = t->w;
  if (taps == 5) gs_dwn_apart(&weights);
  else if (edge) gs_dwn_again(&weights);
  const float *w = (const float *)(const void *)weights;
  if (plain || x != NULL) gs_dwn_taps(k, x, t->win, taps, stride, edge, tap);
  GS_UNROLL for (int o = 0; o < n; o++) {
    const int ky = r - stride * o;
    if (ky < 0 || ky >= taps) continue;
    if (ky == 0) acc[o] = t->bias;
    GS_UNROLL for (int kx = 0; kx < taps; kx++)
      acc[o] = vfmaq_f32(acc[o], vreinterpretq_f32_s8(tap[kx]), vdupq_n_f32(w[taps * ky + kx]));
  }
}

GS_INLINE void gs_dwn_plain_f32(const gs_dwn *k, const gs_dwn_f32 *t, const int8_t *x, int64_t x_row, int8_t *y, size_t y_row, const int n,
                                const int taps, const int stride, const int edge) {
  float32x4_t acc[4];
  GS_UNROLL for (int r = 0; r < stride * (n - 1) + taps; r++, x += x_row) {
    gs_dwn_row_f32(acc, k, t, x, r, n, taps, stride, edge, 1);
    if (r < taps - 1 || (r - (taps - 1)) % stride) continue;
    gs_dwn_store_f32(k, t, y, acc[(r - (taps - 1)) / stride], edge);
    y += y_row;
  }
}

GS_INLINE void gs_dwn_other_f32(const gs_dwn *k, const gs_dwn_f32 *t, int64_t iy, int64_t first, int8_t *y, const int taps, const int stride,
                                const int edge) {
  float32x4_t acc[1];
  GS_UNROLL for (int r = 0; r < taps; r++) gs_dwn_row_f32(acc, k, t, gs_dwn_row(k, iy + r, first, edge), r, 1, taps, stride, edge, 0);
  gs_dwn_store_f32(k, t, y, acc[0], edge);
}

/* Defines a micro-kernel; `many` output rows at a time. */
#define GS_DWN_F32_KERNEL(name, taps_, stride_, many)                                                                         \
  enum { taps = taps_, stride = stride_ };                                                                                   \
  static __attribute__((noinline)) void narrow(const gs_dw_args *a, uint32_t oy, uint32_t ox, int64_t first) {               \
    const gs_dwn k = gs_dwn_make_f32(a);                                                                                     \
    const gs_dwn_f32 t = gs_dwn_f32_of(a, &k, first, taps, stride, 2);                                                       \
    gs_dwn_other_f32(&k, &t, (int64_t)oy * stride - k.top, first, k.y + ((size_t)oy * k.ow + ox) * 4, taps, stride, 2);      \
  }                                                                                                                          \
  GS_INLINE void strip_of(const gs_dw_args *a, const gs_dwn *k, uint32_t ox, int64_t first, const int edge) {                \
    if (taps == 5 && edge) { /* 25 weights and five windows with edges are more than the registers hold */                   \
      for (uint32_t oy = 0; oy < k->oh; oy++) narrow(a, oy, ox, first);                                                      \
      return;                                                                                                                \
    }                                                                                                                        \
    const gs_dwn_f32 t = gs_dwn_f32_of(a, k, first, taps, stride, edge);                                                     \
    GS_DWN_ROWS(k, edge, stride, taps, many, GS_DWN_F32_PLAIN, GS_DWN_F32_OTHER)                                             \
  }                                                                                                                          \
  void name(const gs_dw_args *a) { GS_DWN_STRIPS(gs_dwn_make_f32, GS_DWN_F32_STRIP, stride, GS_DWN_REACH(taps, stride)) }
#define GS_DWN_F32_STRIP(k, ox, first, edge, relu) strip_of(a, k, ox, first, edge)
#define GS_DWN_F32_PLAIN(x, y, n) gs_dwn_plain_f32(k, &t, x, x_row, y, y_row, n, taps, stride, edge)
#define GS_DWN_F32_OTHER(iy, y) gs_dwn_other_f32(k, &t, iy, first, y, taps, stride, edge)
#endif
