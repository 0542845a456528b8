/* Depthwise int8 by relaxed dot on x + 128 as unsigned bytes: four neighbouring pixels of four channels are turned, so that one
 * dot product takes four taps of a kernel row, and the same four pixels serve two outputs. Four output pixels at a time. */
#ifndef GS_WASM_S8_DW_DOT_H
#define GS_WASM_S8_DW_DOT_H
#include "wasm.h"

#define GS_STRIP 128u                 /* output columns of a strip */
#define GS_TURNED (GS_STRIP + 8)      /* vectors of a row: windows of up to 5, stride of up to 2, whole blocks read */

/* [pixel][lane] bytes to [lane][pixel]. */
GS_INLINE v128_t gs_turnw(v128_t v) {
  return wasm_i8x16_relaxed_swizzle(v, wasm_i8x16_const(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
}

/* w[row][d]: taps 4d.. of a kernel row for the first of two outputs of the same pixels; w[row][2 + d]: those of the second, one
 * pixel on. */
typedef struct {
  v128_t w[5][4], bias, scale;
} gs_dw_dot;

void gs_s8_dw_pack__wasmdot(const gs_dw_args *a, void *to);

GS_INLINE v128_t gs_dotw(v128_t w, v128_t x, v128_t acc) { return wasm_i32x4_relaxed_dot_i8x16_i7x16_add(w, x, acc); }

/* Input row iy as unsigned bytes, turned: vector i holds the pixels first + 2i..first + 2i + 3, padding where there are none. */
GS_INLINE void gs_stage_turned(const gs_dw_args *a, int64_t iy, int32_t first, uint32_t cols, v128_t *to) {
  const v128_t sign = wasm_i8x16_const_splat((int8_t)0x80);
  const int32_t n = (int32_t)((cols + 1) / 2), width = (int32_t)a->iw;
  int32_t i = 0;
  if (iy < 0 || iy >= a->ih) {
    const v128_t pad = gs_turnw(wasm_v128_xor(wasm_i32x4_splat((int32_t)a->pad), sign));
    for (; i < n; i++) to[i] = pad;
    return;
  }
  const uint32_t *row = (const uint32_t *)(const void *)((const char *)a->x + iy * (int64_t)a->x_row);
  const int32_t whole = (width - 2 - first) / 2; /* vectors before it end within the row */
  while (i < n) {
    if (first + 2 * i >= 0)
      for (const uint32_t *from = row + first + 2 * i; i < n && i < whole; i++, from += 2)
        to[i] = gs_turnw(wasm_v128_xor(wasm_v128_load(from), sign));
    if (i >= n) break;
    const int32_t px = first + 2 * i; /* by lanes: four stores and one load would stall */
    v128_t edge = wasm_i32x4_splat((int32_t)a->pad);
    if (px >= 0 && px < width) edge = wasm_v128_load32_lane(row + px, edge, 0);
    if (px + 1 >= 0 && px + 1 < width) edge = wasm_v128_load32_lane(row + px + 1, edge, 1);
    if (px + 2 >= 0 && px + 2 < width) edge = wasm_v128_load32_lane(row + px + 2, edge, 2);
    if (px + 3 >= 0 && px + 3 < width) edge = wasm_v128_load32_lane(row + px + 3, edge, 3);
    to[i++] = gs_turnw(wasm_v128_xor(edge, sign));
  }
}

/* One line of an output row: what it reads, and n pixels at y. */
typedef struct {
  const v128_t *row[5];
  const gs_dw_dot *k;
  gs_tame q;
  v128_t flip;
  char *y;
  uint32_t n;
} gs_dot_line;

GS_INLINE v128_t gs_dw_dot_four(const v128_t *const row[5], const v128_t w[5][4], v128_t bias, v128_t scale, const gs_tame *q, uint32_t ox, const int window, const int stride) {
  v128_t acc[4];
  GS_UNROLL for (int i = 0; i < 4; i++) acc[i] = bias;
  GS_UNROLL for (int r = 0; r < window; r++)
    GS_UNROLL for (int d = 0; d < (window + 3) / 4; d++) {
      const v128_t *x = row[r] + ox * (uint32_t)stride / 2 + 2 * d;
      GS_UNROLL for (int i = 0; i < 4; i++) {
        if (stride == 2) acc[i] = gs_dotw(w[r][d], x[i], acc[i]);
        else acc[i] = gs_dotw(w[r][i % 2 * 2 + d], x[i / 2], acc[i]);
      }
    }
  const v128_t scales[4] = {scale, scale, scale, scale};
  return gs_tame_bytes(acc, scales, q);
}

GS_INLINE void gs_dw_dot_line(const gs_dot_line *l, const int window, const int stride) {
  const gs_tame q = l->q;
  const v128_t flip = l->flip, bias = l->k->bias, scale = l->k->scale;
  const v128_t *row[5];
  v128_t w[5][4];
  GS_UNROLL for (int r = 0; r < window; r++) {
    row[r] = l->row[r];
    GS_UNROLL for (int d = 0; d < 4; d++) w[r][d] = l->k->w[r][d];
  }
  uint32_t ox = 0;
  for (; ox + 4 <= l->n; ox += 4)
    wasm_v128_store(l->y + ox * 4, wasm_v128_xor(gs_dw_dot_four(row, w, bias, scale, &q, ox, window, stride), flip));
  if (ox < l->n) gs_store_pixelsw(l->y + ox * 4, l->n - ox, wasm_v128_xor(gs_dw_dot_four(row, w, bias, scale, &q, ox, window, stride), flip));
}

/* n columns from ox0 on, four output pixels at a time. */
GS_INLINE void gs_dw_dot_strip(const gs_dw_args *a, gs_dot_line *l, uint32_t ox0, void (*line)(const gs_dot_line *), const int window, const int stride) {
  v128_t ring[5][GS_TURNED], *row[5];
  const int held = window - stride;
  const int32_t first = (int32_t)(ox0 * (uint32_t)stride) - a->left;
  const uint32_t cols = (l->n - 1) * (uint32_t)stride + (uint32_t)window;
  int64_t iy = -(int64_t)a->top;
  for (int r = 0; r < window; r++) row[r] = ring[r];
  for (int r = 0; r < held; r++) gs_stage_turned(a, iy++, first, cols, row[r]);
  l->y = (char *)a->y + (size_t)ox0 * 4;
  for (uint32_t oy = 0; oy < a->oh; oy++, l->y += (size_t)a->ow * 4) {
    for (int r = held; r < window; r++) gs_stage_turned(a, iy++, first, cols, row[r]);
    for (int r = 0; r < window; r++) l->row[r] = row[r];
    line(l);
    for (int r = 0; r < window; r++) row[r] = (v128_t *)l->row[(r + stride) % window];
  }
}

GS_INLINE void gs_dw_dot_plane(const gs_dw_args *a, void (*line)(const gs_dot_line *), const int window, const int stride) {
  gs_dot_line l = {.k = a->packed, .q = gs_tame_make(&a->q), .flip = wasm_i32x4_splat((int32_t)a->flip)};
  for (uint32_t ox = 0; ox < a->ow; ox += GS_STRIP) {
    l.n = a->ow - ox < GS_STRIP ? a->ow - ox : GS_STRIP;
    gs_dw_dot_strip(a, &l, ox, line, window, stride);
  }
}

#define GS_DW_DOT(name, window, stride)                                                  \
  GS_ALONE static void line(const gs_dot_line *l) { gs_dw_dot_line(l, window, stride); } \
  void name(const gs_dw_args *a) { gs_dw_dot_plane(a, line, window, stride); }
#endif
