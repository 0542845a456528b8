/* Depthwise int8 on NEON: windows of four neighbouring pixels, read where the plane lies. A strip of four output columns goes down
 * the plane; its windows lie at fixed columns. Those that reach over an edge are read from the nearest place inside, and a table
 * lookup puts pixels and padding where they belong; the last strip of a row starts early rather than being partial. */
#ifndef GS_ARM_NEON_DW_H
#define GS_ARM_NEON_DW_H
#include "neon.h"

/* What pack makes of one channel group, for windows of up to 25 taps. NEON: 4 bytes a tap, one per lane. SDOT: 16 bytes for up
 * to four taps of a kernel row, byte 4*l + t for tap t of lane l. */
typedef struct {
  int32_t bias[4];
  float scale[4];
  int8_t w[][16];
} gs_dwn_weights;
#define GS_DWN_BYTES(taps) (32u + ((taps) * 4u + 15u) / 16u * 16u)
#define GS_DWDOT_BYTES(kh, dots) (32u + (kh) * (dots) * 16u)

void gs_s8_dw_pack__neon(const gs_dw_args *a, void *to);
void gs_s8_dw_pack__neondot(const gs_dw_args *a, void *to);

/* A window of a strip: where it is read in a row, and the bytes to take from there (0..15) or from the padding (16). */
typedef struct {
  int64_t at;
  uint8x16_t take;
  int edge;
} gs_dwn_window;

GS_INLINE gs_dwn_window gs_dwn_window_at(const gs_dw_args *a, int64_t first, const int edge) {
  static const uint8_t bytes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  static const uint8_t pixels[16] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
  gs_dwn_window w = {first * 4, vld1q_u8(bytes), edge};
  if (!edge) return w;
  const int64_t most = a->iw > 4 ? (int64_t)a->iw - 4 : 0, near = first < 0 ? 0 : first > most ? most : first;
  const int64_t skip = first < 0 ? (first < -4 ? 4 : -first) : 0, left = (int64_t)a->iw - first, have = left < 0 ? 0 : left > 4 ? 4 : left;
  const uint8x16_t px = vld1q_u8(pixels);
  const uint8x16_t inside = vandq_u8(vcgeq_u8(px, vdupq_n_u8((uint8_t)skip)), vcltq_u8(px, vdupq_n_u8((uint8_t)have)));
  w.at = near * 4;
  w.take = vbslq_u8(inside, vaddq_u8(w.take, vdupq_n_u8((uint8_t)(4 * (first - near)))), vdupq_n_u8(16));
  return w;
}

/* Bytes of a row as `take` says. */
GS_INLINE int8x16_t gs_dwn_load(const gs_dw_args *a, const int8_t *row, const gs_dwn_window *w, int8x16_t pad) {
  if (!w->edge) return vld1q_s8(row + w->at);
  int8_t few[16] = {0};
  if (a->iw < 4) memcpy(few, row, (size_t)a->iw * 4);
  const int8_t *from = a->iw < 4 ? few : row + w->at;
#if defined(__aarch64__)
  const int8x16x2_t both = {{vld1q_s8(from), pad}};
  return vqtbl2q_s8(both, w->take);
#else
  const int8x16_t v = vld1q_s8(from);
  const int8x8x3_t both = {{vget_low_s8(v), vget_high_s8(v), vget_low_s8(pad)}};
  const int8x16_t take = vreinterpretq_s8_u8(w->take);
  return vcombine_s8(vtbl3_s8(both, vget_low_s8(take)), vtbl3_s8(both, vget_high_s8(take)));
#endif
}

/* The row that is iy of the plane, or NULL where that is padding. */
GS_INLINE const int8_t *gs_dwn_row(const gs_dw_args *a, int64_t iy) {
  return iy < 0 || iy >= a->ih ? NULL : (const int8_t *)a->x + iy * (int64_t)a->x_row;
}

/* Four requantised pixels, each word xored with flip; fewer where the row is shorter than that. */
GS_INLINE void gs_dwn_store(const gs_dw_args *a, uint32_t oy, uint32_t ox, int8x16_t v) {
  v = veorq_s8(v, vreinterpretq_s8_u32(vdupq_n_u32(a->flip)));
  gs_store_pixelsn((int8_t *)a->y + ((size_t)oy * a->ow + ox) * 4, v, a->ow - ox);
}

/* Calls strip(a, first output column, edge) over the columns. reach: input columns of a strip's windows. */
#define GS_DWN_STRIPS(strip, stride, reach)                                     \
  for (uint32_t ox = 0;;) {                                                     \
    const int64_t first = (int64_t)ox * (stride) - a->left;                     \
    if (first >= 0 && first + (reach) <= a->iw) strip(a, ox, 0);                \
    else strip(a, ox, 1);                                                       \
    if (ox + 4 >= a->ow) break;                                                 \
    ox = ox + 8 <= a->ow ? ox + 4 : a->ow - 4;                                  \
  }
#endif
