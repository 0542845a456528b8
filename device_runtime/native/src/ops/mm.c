/* Kernel choice, weight packing and tile gathering of CONV and GEMM. */
#include "mm.h"

#include <string.h>

static gs_form stored_form(const gs_op *op) {
  int32_t br = op->p[GS_P_WBR], bc = op->p[GS_P_WBC];
  if (br == 0 || op->p[GS_P_WLABEL] == GS_PATTERN_DENSE) return GS_FORM_DENSE;
  if (br == 1) return GS_FORM_1X4;
  return op->in[0]->dtype == GS_S8 && bc == 1 ? GS_FORM_4X1 : GS_FORM_4X4;
}

gs_status gs_choose_mm(const gs_session *s, const gs_op *op, int gemv, const gs_mm_kernel **kernel, gs_error *error) {
  gs_dtype dtype = op->in[0]->dtype;
  gs_form form = stored_form(op);
  *kernel = gs_pick_mm(s->options.isa_cap, dtype, form, gemv);
  if (!*kernel && form != GS_FORM_DENSE) *kernel = gs_pick_mm(s->options.isa_cap, dtype, GS_FORM_1X4, gemv);
  if (!*kernel) return gs_fail_op(error, GS_E_UNSUPPORTED, op, "this build has no kernel for its weights");
  return GS_OK;
}

static uint64_t executed_products(const gs_mm_kernel *k, const gs_matrix *m, const gs_packed *p) {
  if (k->form == GS_FORM_DENSE) return (uint64_t)m->rows * m->cols;
  return (uint64_t)p->entries * m->br * m->bc;
}

gs_status gs_pack_weights(gs_node *node, const gs_mm_kernel *k, uint32_t rows, uint32_t kh, uint32_t kw, uint32_t cin,
                          uint32_t groups, size_t x_stride, uint64_t pixels, gs_packed *packed, gs_error *error) {
  const gs_op *op = node->op;
  gs_weights w;
  GS_TRY(gs_weights_decode(op, rows, kh, kw, cin, k->form, &w, error));
  gs_matrix part = w.m;
  part.rows = rows / groups;
  size_t item = w.m.dtype == GS_F32 ? 4 : 1;
  const uint8_t *bias = node->in[3];
  const float *scale = node->in[4];
  uint64_t executed = 0;
  gs_status status = GS_OK;
  for (uint32_t g = 0; g < groups && status == GS_OK; g++) {
    size_t row = (size_t)g * part.rows;
    if (groups > 1) part.values = (const uint8_t *)w.m.values + row * w.m.cols * item; /* dense only */
    status = gs_pack(k, &part, bias ? bias + row * 4 : NULL, scale ? scale + row : NULL, x_stride, &packed[g]);
    executed += executed_products(k, &part, &packed[g]);
    node->state_bytes += packed[g].bytes;
  }
  node->kernel = k->name;
  node->weight_count = (uint64_t)rows * kh * kw * cin;
  node->weight_nonzero = w.nonzero;
  node->macs = node->weight_count * pixels;
  node->macs_executed = executed < node->weight_count ? executed * pixels : node->macs;
  gs_weights_free(&w);
  if (status != GS_OK) return gs_fail_op(error, status, op, "out of memory while packing its weights");
  return GS_OK;
}

/* A run of output pixels of one row for one tap: words [0, left) and [left + mid, n) are padding. */
static void gather_run(const gs_gather *g, const gs_word *row, int64_t ix, uint32_t left, uint32_t mid, uint32_t n,
                       gs_word *dst) {
  gs_word pad = g->pad ^ g->flip, flip = g->flip;
  uint32_t step = g->window.sw;
  for (uint32_t i = 0; i < left; i++) dst[i] = pad;
  for (uint32_t i = left + mid; i < n; i++) dst[i] = pad;
  if (!mid) return;
  const gs_word *src = row + (ix + (int64_t)left * step);
  if (step == 1 && !flip) {
    memcpy(dst + left, src, (size_t)mid * 4);
  } else if (step == 1) {
    for (uint32_t i = 0; i < mid; i++) dst[left + i] = src[i] ^ flip;
  } else {
    for (uint32_t i = 0; i < mid; i++) dst[left + i] = src[(size_t)i * step] ^ flip;
  }
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

void gs_gather_tile(const gs_gather *g, uint32_t px0, uint32_t n, uint32_t tile, gs_word *dst) {
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
        for (uint32_t c = 0; c < g->groups; c++, to += tile, row += g->pstride)
          gather_run(g, row, ix, left, end - left, r.n, to);
      }
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

uint32_t gs_tile_pixels(const gs_mm_kernel *k, uint64_t words_per_pixel, uint32_t pixels) {
  uint32_t tile = k->tile_px, all = gs_round_px(pixels);
  /* Wide tiles pay while they stay in the first cache: 1x4 at 75% on AVX-512 runs 64 pixels of 512 channels 12% faster
   * than 128, and 128 pixels of 64 channels 12% faster than 64. */
  while (tile > 64 && words_per_pixel * tile * 4 > 32 * 1024) tile = (tile / 2 + GS_PX - 1) / GS_PX * GS_PX;
  while (tile > GS_PX && words_per_pixel * tile * 4 > 512 * 1024) tile = (tile / 2 + GS_PX - 1) / GS_PX * GS_PX;
  return tile < all ? tile : all;
}
