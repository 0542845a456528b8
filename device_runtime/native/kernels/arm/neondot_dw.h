/* Depthwise int8 by sdot: the 4x4 bytes of a window turned by tbl, so that up to four taps of a kernel row are one sdot. */
#ifndef GS_ARM_NEONDOT_DW_H
#define GS_ARM_NEONDOT_DW_H
#include "neon_dw.h"
#include "neondot.h"

/* A window whose bytes come out turned: byte 4*lane + pixel. */
GS_INLINE gs_dwn_window gs_dwdot_window_at(const gs_dwn *k, int64_t first, const int column, const int edge) {
  static const uint8_t turn[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
  gs_dwn_window w = gs_dwn_window_at(k, first, column, edge);
  w.take = edge ? vqtbl1q_u8(w.take, vld1q_u8(turn)) : vld1q_u8(turn);
  return w;
}

/* A window of a row; unless `plain`, NULL is a row of padding. */
GS_INLINE int8x16_t gs_dwdot_load(const gs_dwn *k, const int8_t *row, const gs_dwn_window *w, const int edge, const int plain) {
  if (!plain && row == NULL) return k->pad;
  return edge ? gs_dwn_take(k, row, w, edge) : vqtbl1q_s8(vld1q_s8(row + w->at), w->take);
}
#endif
