/* Depthwise on NEON: windows of four neighbouring pixels, read where the plane lies. A strip of four output columns goes down
 * the plane; its windows lie at fixed columns. Those that reach over an edge are read from the nearest place inside, and a table
 * lookup puts pixels and padding where they belong; the last strip of a row starts early rather than being partial. */
#ifndef GS_ARM_NEON_DW_H
#define GS_ARM_NEON_DW_H
#include "neon.h"

/* What pack makes of one channel group, for windows of up to 25 taps. NEON: 4 bytes a tap, one per lane. SDOT: 16 bytes for up
 * to four taps of a kernel row, byte 4*l + t for tap t of lane l. */
typedef struct {
  int32_t bias[4][4]; /* four times the same: an accumulator for each of four pixels in one load */
  float scale[4];
  int8_t w[][16];
} gs_dwn_weights;
#define GS_DWN_BYTES(taps) (80u + ((taps) * 4u + 15u) / 16u * 16u)
#define GS_DWDOT_BYTES(kh, dots) (80u + (kh) * (dots) * 16u)

void gs_s8_dw_pack__neon(const gs_dw_args *a, void *to);
void gs_s8_dw_pack__neondot(const gs_dw_args *a, void *to);

/* The arguments as values, so that stores of bytes (which may alias anything) do not make the compiler load them again. */
typedef struct {
  const int8_t *x;
  int8_t *y;
  int64_t x_row, iw, ih, top, left;
  uint32_t oh, ow;
  int8x16_t pad, flip;
  const int32_t *bias;
  float32x4_t scale;
  const int8_t *w;
  gs_rqn q;
} gs_dwn;

GS_INLINE gs_dwn gs_dwn_make(const gs_dw_args *a) {
  const gs_dwn_weights *p = a->packed;
  gs_dwn k = {.x = a->x, .y = a->y, .x_row = (int64_t)a->x_row, .iw = a->iw, .ih = a->ih, .top = a->top, .left = a->left,
              .oh = a->oh, .ow = a->ow};
  k.pad = vreinterpretq_s8_u32(vdupq_n_u32(a->pad));
  k.flip = vreinterpretq_s8_u32(vdupq_n_u32(a->flip));
  k.bias = p->bias[0];
  k.scale = vld1q_f32(p->scale);
  k.w = p->w[0];
  k.q = gs_rqn_make(&a->q);
#if defined(__aarch64__)
  k.q.turn = veorq_u8(k.q.turn, vreinterpretq_u8_s8(k.flip));
#endif
  return k;
}

/* Where a loop has more weights than registers: they are loaded again where they are needed. Apart: and no load moves up across. */
GS_INLINE void gs_dwn_again(const int8_t **weights) { __asm__("" : "+r"(*weights)); }
GS_INLINE void gs_dwn_apart(const int8_t **weights) { __asm__ volatile("" : "+r"(*weights) : : "memory"); }

/* A window of a strip: where it is read in a row (edge 0: from the strip's first column on), and the bytes to take from there
 * (0..15) or from the padding (16). */
typedef struct {
  int64_t at;
  uint8x16_t take;
} gs_dwn_window;

/* The windows of a strip of five taps, loaded where they are needed for the same reason. */
GS_INLINE const gs_dwn_window *gs_dwn_windows_again(const gs_dwn_window *win, const int edge) {
  if (edge) __asm__("" : "+r"(win) : : "memory");
  return win;
}

GS_INLINE gs_dwn_window gs_dwn_window_at(const gs_dwn *k, int64_t strip, const int column, const int edge) {
  static const uint8_t bytes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  static const uint8_t pixels[16] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
  gs_dwn_window w = {column * 4, vld1q_u8(bytes)};
  if (!edge) return w;
  const int64_t first = strip + column;
  const int64_t most = k->iw > 4 ? k->iw - 4 : 0, near = first < 0 ? 0 : first > most ? most : first;
  const int64_t skip = first < 0 ? (first < -4 ? 4 : -first) : 0, left = k->iw - first, have = left < 0 ? 0 : left > 4 ? 4 : left;
  const uint8x16_t px = vld1q_u8(pixels);
  const uint8x16_t inside = vandq_u8(vcgeq_u8(px, vdupq_n_u8((uint8_t)skip)), vcltq_u8(px, vdupq_n_u8((uint8_t)have)));
  w.at = near * 4;
  w.take = vbslq_u8(inside, vaddq_u8(w.take, vdupq_n_u8((uint8_t)(4 * (first - near)))), vdupq_n_u8(16));
  return w;
}

/* One to three pixels. */
GS_INLINE int8x16_t gs_dwn_few(const int8_t *row, int64_t n) {
  const uint32_t *px = (const uint32_t *)(const void *)row;
  uint32x4_t v = vld1q_lane_u32(px, vdupq_n_u32(0), 0);
  if (n > 1) v = vld1q_lane_u32(px + 1, v, 1);
  if (n > 2) v = vld1q_lane_u32(px + 2, v, 2);
  return vreinterpretq_s8_u32(v);
}

/* Bytes of a row and of the padding as `take` says. */
GS_INLINE int8x16_t gs_dwn_take(const gs_dwn *k, const int8_t *row, const gs_dwn_window *w, const int edge) {
  const int8x16_t v = edge == 2 && k->iw < 4 ? gs_dwn_few(row, k->iw) : vld1q_s8(row + w->at);
#if defined(__aarch64__)
  return vqtbx1q_s8(k->pad, v, w->take);
#else
  const int8x8x3_t both = {{vget_low_s8(v), vget_high_s8(v), vget_low_s8(k->pad)}};
  const int8x16_t take = vreinterpretq_s8_u8(w->take);
  return vcombine_s8(vtbl3_s8(both, vget_low_s8(take)), vtbl3_s8(both, vget_high_s8(take)));
#endif
}

/* Row iy of the plane (edge 0: from the strip's first column on), or NULL above and below it. */
GS_INLINE const int8_t *gs_dwn_row(const gs_dwn *k, int64_t iy, int64_t first, const int edge) {
  return iy < 0 || iy >= k->ih ? NULL : k->x + (edge ? 0 : first * 4) + iy * k->x_row;
}

/* Four requantised pixels, each word xored with flip; edge 2: fewer where the row is shorter than that. */
GS_INLINE void gs_dwn_store(const gs_dwn *k, int8_t *y, int32x4x4_t acc, const int edge, const int relu) {
  const int8x16_t q = gs_rqn_16(acc.val[0], acc.val[1], acc.val[2], acc.val[3], k->scale, &k->q, relu), v = relu ? q : veorq_s8(q, k->flip);
  const uint32x4_t px = vreinterpretq_u32_s8(v);
  if (edge < 2 || k->ow >= 4) {
    vst1q_s8(y, v);
    return;
  }
  uint32_t *to = (uint32_t *)(void *)y;
  vst1q_lane_u32(to, px, 0);
  if (k->ow > 1) vst1q_lane_u32(to + 1, px, 1);
  if (k->ow > 2) vst1q_lane_u32(to + 2, px, 2);
}

/* Calls, with k = make(a), strip(k, first output column, first input column, edge, relu) over the columns. reach: input columns of a
 * strip's windows. edge: 0 no window reaches over the left or right edge of the plane, 1 some may. Where the input or the output is
 * narrower than a window (edge 2), narrow(a, oy, ox, first input column) does one row. */
#define GS_DWN_STRIPS(make, strip, stride, reach)                                          \
  const gs_dwn k = make(a);                                                                \
  for (uint32_t ox = 0;;) {                                                                \
    const int64_t first = (int64_t)ox * (stride) - k.left;                                 \
    if (k.iw < 4 || k.ow < 4)                                                              \
      for (uint32_t oy = 0; oy < k.oh; oy++) narrow(a, oy, ox, first);                     \
    else if (first < 0 || first + (reach) > k.iw)                                          \
      k.q.relu ? strip(&k, ox, first, 1, 1) : strip(&k, ox, first, 1, 0);                  \
    else k.q.relu ? strip(&k, ox, first, 0, 1) : strip(&k, ox, first, 0, 0);               \
    if (ox + 4 >= k.ow) break;                                                             \
    ox = ox + 8 <= k.ow ? ox + 4 : k.ow - 4;                                               \
  }

/* Output rows [*first, *last) are plain: they read no row above or below the plane. */
GS_INLINE void gs_dwn_plain(const gs_dwn *k, const int stride, const int window, uint32_t *first, uint32_t *last) {
  const int64_t oh = k->oh, from = k->top > 0 ? (k->top + stride - 1) / stride : 0;
  const int64_t room = k->ih + k->top - window, to = room < 0 ? 0 : room / stride + 1;
  *first = (uint32_t)(from < oh ? from : oh);
  *last = (uint32_t)(to < oh ? to : oh);
}

/* Calls plain(x, y, n) over the output rows, `many` plain ones at a time, else one: x is the first input row (edge 0: from the
 * strip's first column on), y the output of the strip; and other(iy, y) for the rows that are not plain. */
#define GS_DWN_ROWS(k, edge, stride, window, many, plain, other)                                          \
  uint32_t plain0, plain1, oy = 0;                                                                         \
  gs_dwn_plain(k, stride, window, &plain0, &plain1);                                                       \
  int8_t *y = (k)->y + (size_t)ox * 4;                                                                     \
  const size_t y_row = (size_t)(k)->ow * 4;                                                                \
  const int64_t x_row = (k)->x_row;                                                                        \
  while (oy < (k)->oh) {                                                                                   \
    if (oy == plain0) {                                                                                    \
      const int8_t *x = (k)->x + ((edge) ? 0 : first * 4) + ((int64_t)oy * (stride) - (k)->top) * x_row;   \
      uint32_t left = plain1 > oy ? plain1 - oy : 0;                                                       \
      oy += left;                                                                                          \
      for (; left >= (many); left -= (many), x += (many) * (stride) * x_row, y += (many) * y_row)          \
        plain(x, y, many);                                                                                 \
      for (; left != 0; left--, x += (stride) * x_row, y += y_row) plain(x, y, 1);                         \
      if (oy == (k)->oh) break;                                                                            \
    }                                                                                                      \
    other((int64_t)oy * (stride) - (k)->top, y);                                                           \
    oy++;                                                                                                  \
    y += y_row;                                                                                            \
  }

/* The columns at which the windows of a strip start, and how many: a kernel row of `taps` (3 or 5) taps at stride 1 needs one a
 * tap; at stride 2 pairs of windows part into even and odd pixels. */
#define GS_DWN_WINDOWS 5
GS_INLINE int gs_dwn_windows(const int taps, const int stride) { return stride == 1 ? taps : taps == 3 ? 4 : 5; }
GS_INLINE int gs_dwn_column(const int i, const int stride) { return stride == 1 ? i : i == 4 ? 8 : 4 * (i % 2) + 2 * (i / 2); }
#define GS_DWN_REACH(taps, stride) ((stride) == 1 ? 3 + (taps) : 4 + 2 * (taps)) /* input columns of a strip's windows, or more */

/* Four pixels of each tap of a kernel row. */
GS_INLINE void gs_dwn_taps(const gs_dwn *k, const int8_t *row, const gs_dwn_window *win, const int taps, const int stride, const int edge,
                           int8x16_t *tap) {
  int8x16_t v[GS_DWN_WINDOWS];
  if (taps == 5) win = gs_dwn_windows_again(win, edge);
  GS_UNROLL for (int i = 0; i < gs_dwn_windows(taps, stride); i++)
    v[i] = edge ? gs_dwn_take(k, row, &win[i], edge) : vld1q_s8(row + win[i].at);
  if (stride == 1) {
    GS_UNROLL for (int i = 0; i < taps; i++) tap[i] = v[i];
    return;
  }
  const int32x4x2_t near = vuzpq_s32(vreinterpretq_s32_s8(v[0]), vreinterpretq_s32_s8(v[1]));
  const int32x4x2_t next = vuzpq_s32(vreinterpretq_s32_s8(v[2]), vreinterpretq_s32_s8(v[3]));
  tap[0] = vreinterpretq_s8_s32(near.val[0]);
  tap[1] = vreinterpretq_s8_s32(near.val[1]);
  tap[2] = vreinterpretq_s8_s32(next.val[0]);
  if (taps < 5) return;
  tap[3] = vreinterpretq_s8_s32(next.val[1]);
  tap[4] = vreinterpretq_s8_s32(vuzpq_s32(vreinterpretq_s32_s8(v[1]), vreinterpretq_s32_s8(v[4])).val[0]);
}
#endif
