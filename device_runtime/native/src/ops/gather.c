/* Gathering of tiles: whole planes, masked windows, the same in phases of a stride of two, or runs of one output row, whichever
 * the window allows. */
#include "gather.h"

#define INSIDE_MOST 65536u /* entries: beyond that runs are long anyway */

static bool is_plane(const gs_window *w, uint32_t width, uint32_t out_width) {
  return w->kh == 1 && w->kw == 1 && w->sh == 1 && w->sw == 1 && !(w->pt | w->pl) && width == out_width;
}

static bool in_phases(const gs_window *w, uint32_t width, uint32_t out_width) {
  return w->sh == 2 && w->sw == 2 && w->dh == 1 && w->dw == 1 && width == 2 * out_width && w->kh * w->kw > 1;
}

/* Rounded down, for a tap that lies above or left of the first pixel, too. */
static int64_t half(int64_t v) { return (v - (v & 1)) / 2; }

/* Rows of one phase above and below those of the output rows themselves. */
static int64_t phase_above(const gs_window *w) { return -half(-(int64_t)w->pt); }
static int64_t phase_below(const gs_window *w) { return half((int64_t)w->kh - 1 - w->pt); }

static uint64_t phase_rows(const gs_window *w, uint32_t rows) { return (uint64_t)(rows + phase_above(w) + phase_below(w)); }

uint64_t gs_phase_words(const gs_tensor *y, const gs_window *w, uint32_t groups, uint32_t n) {
  if (!in_phases(w, y->dims[3] * 2, y->dims[3])) return 0;
  uint32_t rows = n / y->dims[3] + 2;
  return 4 * (uint64_t)groups * phase_rows(w, rows < y->dims[2] ? rows : y->dims[2]) * y->dims[3] + GS_PX;
}

size_t gs_inside_entries(const gs_loops *loops, const gs_tensor *x, const gs_tensor *y, const gs_window *w) {
  bool single = w->sh == 1 && w->sw == 1 && x->dims[3] == y->dims[3] && !is_plane(w, x->dims[3], y->dims[3]);
  if (!loops->window || (!single && !in_phases(w, x->dims[3], y->dims[3]))) return 0;
  uint64_t entries = (uint64_t)w->kh * w->kw * gs_ceil_div(y->dims[2] * y->dims[3], 16);
  return entries <= INSIDE_MOST ? (size_t)entries : 0;
}

void gs_inside_fill(const gs_tensor *x, const gs_tensor *y, const gs_window *w, uint16_t *inside) {
  uint32_t pixels = y->dims[2] * y->dims[3], row = gs_ceil_div(pixels, 16);
  for (uint32_t ky = 0; ky < w->kh; ky++)
    for (uint32_t kx = 0; kx < w->kw; kx++, inside += row) {
      for (uint32_t i = 0; i < row; i++) inside[i] = 0;
      for (uint32_t p = 0; p < pixels; p++) {
        int64_t iy = (int64_t)(p / y->dims[3]) * w->sh + (int64_t)ky * w->dh - w->pt;
        int64_t ix = (int64_t)(p % y->dims[3]) * w->sw + (int64_t)kx * w->dw - w->pl;
        bool in = iy >= 0 && iy < x->dims[2] && ix >= 0 && ix < x->dims[3];
        inside[p / 16] |= (uint16_t)((unsigned)in << p % 16);
      }
    }
}

/* A run of output pixels of one row for one tap, of every channel group: words [0, left) and [left + mid, n) are padding. */
static void gather_run(const gs_gather *g, const gs_word *row, int64_t ix, uint32_t left, uint32_t mid, uint32_t n, gs_word *dst,
                       uint32_t tile) {
  gs_word pad = g->pad ^ g->flip;
  if (left + mid < n || left)
    for (uint32_t c = 0; c < g->groups; c++) {
      gs_word *to = dst + (size_t)c * tile;
      for (uint32_t i = 0; i < left; i++) to[i] = pad;
      for (uint32_t i = left + mid; i < n; i++) to[i] = pad;
    }
  if (!mid) return;
  const gs_word *from = row + (ix + (int64_t)left * g->window.sw);
  g->loops->gather(from, g->pstride, g->groups, mid, g->window.sw, g->flip, dst + left, tile);
}

/* Runs of the tile that lie in one output row each. */
typedef struct {
  uint32_t oy, ox, n, at;
} run;

static bool next_run(const gs_gather *g, uint32_t px0, uint32_t n, run *r) {
  r->at += r->n;
  if (r->at >= n) return false;
  r->oy = (px0 + r->at) / g->out_width;
  r->ox = (px0 + r->at) % g->out_width;
  r->n = g->out_width - r->ox < n - r->at ? g->out_width - r->ox : n - r->at;
  return true;
}

static void gather_runs(const gs_gather *g, uint32_t px0, uint32_t n, uint32_t tile, gs_word *dst) {
  const gs_window *w = &g->window;
  run r = {0};
  while (next_run(g, px0, n, &r))
    for (uint32_t ky = 0; ky < w->kh; ky++) {
      int64_t iy = (int64_t)r.oy * w->sh - w->pt + (int64_t)ky * w->dh;
      bool inside = iy >= 0 && iy < g->height;
      for (uint32_t kx = 0; kx < w->kw; kx++) {
        int64_t ix = (int64_t)r.ox * w->sw - w->pl + (int64_t)kx * w->dw;
        uint32_t left = r.n, end = r.n;
        if (inside) gs_valid_range(r.n, w->sw, ix, g->width, &left, &end);
        gs_word *to = dst + (size_t)(ky * w->kw + kx) * g->groups * tile + r.at;
        const gs_word *row = g->src + (inside ? (size_t)iy * g->width : 0);
        gather_run(g, row, ix, left, end - left, r.n, to, tile);
      }
    }
}

static void gather_windows(const gs_gather *g, uint32_t px0, uint32_t n, uint32_t tile, gs_word *dst) {
  const gs_window *w = &g->window;
  const uint16_t *inside = g->inside + px0 / 16;
  for (uint32_t ky = 0; ky < w->kh; ky++)
    for (uint32_t kx = 0; kx < w->kw; kx++, inside += g->inside_row) {
      int64_t shift = (int64_t)px0 + ((int64_t)ky * w->dh - w->pt) * (int64_t)g->width + (int64_t)kx * w->dw - w->pl;
      g->loops->window(g->src + shift, g->pstride, g->groups, (n + 15) / 16 * 16, inside, g->pad, g->flip, dst, tile);
      dst += (size_t)g->groups * tile;
    }
}

/* Even and odd rows and columns of the rows that output rows [r0, r1] read, taken apart: word (row parity, column parity, group,
 * row, column). Rows outside the image stay as they are: nobody reads them. */
static void split_phases(const gs_gather *g, uint32_t r0, uint32_t r1) {
  const gs_window *w = &g->window;
  int64_t first = (int64_t)r0 - phase_above(w), rows = (int64_t)phase_rows(w, r1 - r0 + 1);
  gs_word *to = g->phases;
  for (int64_t py = 0; py < 2; py++) {
    int64_t from = first < 0 ? 0 : first, end = first + rows, most = ((int64_t)g->height - py + 1) / 2;
    if (end > most) end = most;
    for (int64_t px = 0; px < 2; px++)
      for (uint32_t c = 0; c < g->groups; c++, to += rows * g->out_width) {
        const gs_word *row = g->src + (size_t)c * g->pstride + (size_t)(2 * from + py) * g->width + px;
        if (end > from)
          g->loops->gather(row, 2 * g->width, (uint32_t)(end - from), g->out_width, 2, 0, to + (from - first) * g->out_width,
                           g->out_width);
      }
  }
}

static void gather_phases(const gs_gather *g, uint32_t px0, uint32_t n, uint32_t tile, gs_word *dst) {
  const gs_window *w = &g->window;
  uint32_t r0 = px0 / g->out_width, r1 = (px0 + n - 1) / g->out_width;
  size_t plane = (size_t)phase_rows(w, r1 - r0 + 1) * g->out_width;
  const uint16_t *inside = g->inside + px0 / 16;
  split_phases(g, r0, r1);
  for (uint32_t ky = 0; ky < w->kh; ky++)
    for (uint32_t kx = 0; kx < w->kw; kx++, inside += g->inside_row) {
      int64_t ty = (int64_t)ky - w->pt, tx = (int64_t)kx - w->pl;
      const gs_word *from = g->phases + (size_t)((ty & 1) * 2 + (tx & 1)) * g->groups * plane;
      int64_t shift = (half(ty) + phase_above(w)) * (int64_t)g->out_width + half(tx) + (px0 - r0 * g->out_width);
      g->loops->window(from + shift, plane, g->groups, (n + 15) / 16 * 16, inside, g->pad, g->flip, dst, tile);
      dst += (size_t)g->groups * tile;
    }
}

void gs_gather_tile(const gs_gather *g, uint32_t px0, uint32_t n, uint32_t tile, gs_word *dst) {
  if (is_plane(&g->window, g->width, g->out_width)) {
    g->loops->gather(g->src + px0, g->pstride, g->groups, n, 1, g->flip, dst, tile);
  } else if (g->inside && tile > 1 && g->window.sw == 2) {
    gather_phases(g, px0, n, tile, dst);
  } else if (g->inside && tile > 1) {
    gather_windows(g, px0, n, tile, dst);
  } else {
    gather_runs(g, px0, n, tile, dst);
  }
}

void gs_gather_lanes(const gs_gather *g, uint32_t first, uint32_t count, uint32_t px0, uint32_t n, uint32_t tile,
                     uint8_t *dst) {
  const gs_window *w = &g->window;
  const uint8_t *src = (const uint8_t *)g->src;
  uint8_t pad = (uint8_t)(g->pad ^ g->flip), flip = (uint8_t)g->flip;
  for (uint32_t p = 0; p < n; p++) {
    uint32_t oy = (px0 + p) / g->out_width, ox = (px0 + p) % g->out_width;
    for (uint32_t tap = 0; tap < w->kh * w->kw; tap++) {
      int64_t iy = (int64_t)oy * w->sh - w->pt + (int64_t)(tap / w->kw) * w->dh;
      int64_t ix = (int64_t)ox * w->sw - w->pl + (int64_t)(tap % w->kw) * w->dw;
      bool inside = iy >= 0 && iy < g->height && ix >= 0 && ix < g->width;
      for (uint32_t i = 0; i < g->groups * 4; i++) {
        uint32_t c = first + i;
        uint8_t *to = dst + (((size_t)tap * g->groups + i / 4) * tile + p) * 4 + i % 4;
        if (!inside || i >= count) *to = pad;
        else *to = src[((size_t)(c / 4) * g->pstride + (size_t)iy * g->width + (size_t)ix) * 4 + c % 4] ^ flip;
      }
    }
  }
}
