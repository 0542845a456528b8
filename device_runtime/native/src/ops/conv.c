/* Conv: tiles of output pixels, gathered or read in place, times packed weights; dense or sparse, f32 and int8. */
#include <string.h>

#include "dwconv.h"
#include "gather.h"
#include "mm.h"
#include "ops.h"
#include "pack.h"

typedef struct {
  const gs_mm_kernel *k;
  gs_packed *packed; /* one per group */
  uint32_t groups, cin, cout; /* cin, cout: of one group */
  uint32_t kgroups;  /* channel groups of one convolution group's input, as gathered */
  uint32_t pixels, tile, tiles, splits;
  uint32_t row;      /* pixels from one group of the gathered tile to the next */
  const gs_node *inner; /* makes the tile: a depthwise operator; else NULL */
  size_t inner_bytes; /* of its scratch */
  bool direct;       /* the kernel reads x where it lies */
  bool lanes_in, lanes_out; /* int8 groups that start within four channels */
  bool close_up;     /* lanes that few input channels leave empty are closed up in the gathered tile */
  bool wide;         /* the kernel reads an int16 tile */
  size_t x_bytes, wide_bytes; /* of the gathered tile and of the wide one behind it in scratch */
  size_t open_bytes; /* of the tile before it is closed up, behind those */
  uint16_t *inside;  /* behind packed; NULL where the window needs none */
  uint32_t inside_row;
} conv_state;

gs_status gs_conv_check(const gs_op *op, gs_error *error) {
  bool sparse = op->p[GS_P_WBR] != 0;
  GS_TRY(gs_check_operands(op, 5, 1, 1, error));
  const gs_tensor *x = op->in[0], *y = op->out[0];
  GS_TRY(gs_check_window(op, x, y, error));
  GS_TRY(gs_check_clamp(op, x->dtype, error));
  GS_TRY(gs_check_param(op, GS_P_GROUPS, "groups", 1, x->dims[1], error));
  uint32_t groups = (uint32_t)op->p[GS_P_GROUPS];
  if (x->dims[1] % groups || y->dims[1] % groups)
    GS_REFUSE("%u groups do not divide %u and %u channels", groups, x->dims[1], y->dims[1]);
  if (sparse && groups != 1) GS_REFUSE("sparse weights need one group, not %u", groups);
  GS_TRY(gs_check_bias_scale(op, x->dtype, op->in[3], op->in[4], y->dims[1], error));
  gs_window w = gs_window_of(op);
  return gs_weights_check(op, y->dims[1], w.kh, w.kw, x->dims[1] / groups, error);
}

/* Rows of one tile of an inner depthwise operator, such that no two tiles share a vector of output pixels and the tile stays near
 * the core: those with which the busiest thread goes through the fewest rows, two of the neighbours' with every tile; 0 when there
 * are none, or some thread would have no tile. */
static uint32_t inner_rows(const gs_session *s, const gs_tensor *y, uint64_t words) {
  uint32_t height = y->dims[2], width = y->dims[3], threads = gs_threads(s), best = 0;
  uint64_t near = 256 * 1024 / (words * 4), most = near < 4096 ? near : 4096, least = UINT64_MAX;
  for (uint32_t rows = 1; rows <= height; rows++) {
    uint32_t tiles = gs_ceil_div(height, rows);
    if (((rows * width) % GS_PX && rows != height) || tiles < threads) continue;
    if (best && (uint64_t)rows * width > most) break;
    uint64_t walked = (uint64_t)gs_ceil_div(tiles, threads) * (rows + 2);
    if (walked > least) continue;
    least = walked;
    best = rows;
  }
  uint64_t stride = 4 * (uint64_t)gs_tile_row(best * width);
  return (uint64_t)best * width <= 4 * most && stride <= GS_SORTED_STRIDE ? best : 0;
}

/* A window of stride two and more may be gathered in runs of one output row: tiles of whole rows, where they exist, cut none
 * short. */
static uint32_t tile_of_rows(const conv_state *c, const gs_window *w, const gs_tensor *y, uint64_t words, uint32_t tile) {
  uint32_t width = y->dims[3];
  if (c->direct || w->sw == 1 || width < GS_PX || width > 256) return tile;
  for (uint32_t rows = 1; rows * width <= 512; rows++)
    if (rows * width >= tile && (rows * width) % GS_PX == 0 && words * rows * width * 4 <= 192 * 1024) return rows * width;
  return tile;
}

static gs_status plan_tiles(gs_session *s, gs_node *node, conv_state *c, gs_error *error) {
  const gs_op *op = node->op;
  const gs_tensor *x = op->in[0], *y = op->out[0];
  gs_window w = gs_window_of(op);
  uint32_t b = gs_block(x->dtype);
  c->pixels = y->dims[2] * y->dims[3];
  int gemv = c->pixels == 1;
  GS_TRY(gs_choose_mm(s, op, gemv, (uint64_t)w.kh * w.kw * c->cin, &c->k, error));
  c->lanes_in = b == 4 && c->groups > 1 && c->cin % 4;
  c->lanes_out = b == 4 && c->groups > 1 && c->cout % 4;
  c->kgroups = gs_ceil_div(c->cin, b);
  c->close_up = gs_can_close_up(c->k, op, w.kh * w.kw, c->cin, c->groups);
  bool pointwise = w.kh == 1 && w.kw == 1 && w.sh == 1 && w.sw == 1 && !(w.pt | w.pl | w.pb | w.pr);
  c->wide = (c->k->widen & GS_WIDE_X) != 0;
  uint64_t words = (uint64_t)w.kh * w.kw * c->kgroups;
  /* Kernels of lists in fours keep a slice of x near the core by themselves, and narrower tiles cost the depthwise operator more
   * than the way to the next cache: MobileNetV1 at 90% runs 5% faster with the two apart. */
  bool together = node->inner && !gemv && !gs_in_fours(c->k);
  uint32_t rows = together && (!c->k->x_offset || gs_dw_flips(node->inner)) ? inner_rows(s, y, words) : 0;
  c->direct = pointwise && !c->lanes_in && !c->k->x_offset && !rows; /* or where widening reads it */
  c->tile = rows   ? rows * y->dims[3]
            : gemv ? 1
                   : tile_of_rows(c, &w, y, words, gs_tile_pixels(s, c->k, c->direct ? 0 : words, c->pixels));
  c->tiles = gs_ceil_div(c->pixels, c->tile);
  c->row = gemv ? 1 : gs_tile_row(c->tile);
  if (rows) {
    c->inner = node->inner;
    node->inner->is_inner = true;
    c->inner_bytes = (size_t)gs_dw_scratch(c->inner, rows);
  } else {
    node->inner = NULL;
  }
  uint64_t open_bytes = c->close_up ? words * c->row * 4 : 0;
  uint64_t phase_bytes = c->inside ? gs_phase_words(y, &w, c->kgroups, c->tile) * 4 : 0;
  if (c->close_up) words = gs_ceil_div(w.kh * w.kw * c->cin, 4);
  uint64_t x_bytes = c->direct ? 0 : (words * c->row * 4 + 63) / 64 * 64;
  uint64_t wide_bytes = c->wide ? words * GS_WIDE_PX * 8 : 0;
  uint64_t y_bytes = c->lanes_out ? (uint64_t)(c->cout + 3) * c->row : 0;
  GS_TRY(gs_want_scratch(s, op, x_bytes + wide_bytes + y_bytes + open_bytes + phase_bytes + c->inner_bytes, error));
  c->x_bytes = (size_t)x_bytes;
  c->wide_bytes = (size_t)wide_bytes;
  c->open_bytes = (size_t)open_bytes;
  return GS_OK;
}

gs_status gs_conv_prepare(gs_session *s, gs_node *node, gs_error *error) {
  const gs_op *op = node->op;
  const gs_tensor *x = op->in[0], *y = op->out[0];
  gs_window w = gs_window_of(op);
  uint32_t groups = (uint32_t)op->p[GS_P_GROUPS];
  size_t inside = gs_inside_entries(s->loops, x, y, &w);
  uint64_t bytes = sizeof(conv_state) + (uint64_t)groups * sizeof(gs_packed) + inside * sizeof(uint16_t);
  conv_state *c = bytes > GS_SCRATCH_MAX ? NULL : gs_alloc((size_t)bytes);
  if (!c) return gs_fail_op(error, GS_E_MEMORY, op, "no memory for its state");
  node->state = c;
  node->state_bytes = (size_t)bytes;
  c->packed = (gs_packed *)(c + 1);
  if (inside) {
    c->inside = (uint16_t *)(c->packed + groups);
    c->inside_row = gs_ceil_div(y->dims[2] * y->dims[3], 16);
    gs_inside_fill(x, y, &w, c->inside);
  }
  c->groups = groups;
  c->cin = x->dims[1] / groups;
  c->cout = y->dims[1] / groups;
  GS_TRY(plan_tiles(s, node, c, error));
  size_t x_stride = c->wide ? GS_WIDE_PX * 8 : (size_t)(c->direct ? x->pstride : c->row) * 4;
  GS_TRY(gs_pack_weights(node, c->k, y->dims[1], w.kh, w.kw, c->cin, groups, x_stride,
                         (uint64_t)y->dims[0] * c->pixels, c->close_up, c->packed, error));
  c->splits = c->inner ? 1 : gs_row_splits(s, (uint64_t)c->tiles * y->dims[0] * groups, c->packed[0].row_blocks);
  return GS_OK;
}

typedef struct {
  const gs_session *s;
  const gs_node *node;
  const conv_state *c;
} job;

/* Rows [row0, row1) of one group's tile go from scratch to channels that do not start on a group of four. */
static void scatter_lanes(const conv_state *c, const gs_tensor *y, const uint8_t *from, uint32_t group, uint32_t row0,
                          uint32_t row1, uint32_t px0, uint32_t n, uint8_t *image) {
  for (uint32_t r = row0; r < row1 && r < c->cout; r++) {
    uint32_t ch = group * c->cout + r;
    uint8_t *to = image + ((size_t)(ch / 4) * y->pstride + px0) * 4 + ch % 4;
    const uint8_t *row = from + (size_t)(r / 4) * c->row * 4 + r % 4;
    for (uint32_t p = 0; p < n; p++) to[p * 4] = row[p * 4];
  }
}

/* The tile as the inner depthwise operator makes it. */
static const void *inner_tile(const job *j, uint32_t image, uint32_t px0, uint32_t n, uint8_t *scratch, uint32_t thread) {
  const conv_state *c = j->c;
  uint32_t width = j->node->op->out[0]->dims[3];
  uint64_t before = j->s->inner_ns ? gs_now_ns() : 0;
  uint8_t *behind = scratch + c->x_bytes + c->wide_bytes;
  for (uint32_t g = 0; g < c->kgroups; g++)
    gs_dw_rows(c->inner, image, g, px0 / width, (px0 + n) / width, scratch + (size_t)g * c->row * 4, c->row, gs_flip_word(c->k),
               behind);
  if (j->s->inner_ns) j->s->inner_ns[thread] += gs_now_ns() - before;
  return scratch;
}

static const void *tile_x(const job *j, const uint8_t *image, uint32_t group, uint32_t px0, uint32_t n, void *scratch) {
  const conv_state *c = j->c;
  const gs_op *op = j->node->op;
  const gs_tensor *x = op->in[0];
  if (c->direct) return image + ((size_t)group * c->kgroups * x->pstride + px0) * 4;
  gs_word *open = (gs_word *)((uint8_t *)scratch + c->x_bytes + c->wide_bytes); /* as gathered, before it is closed up */
  gs_gather g = {.loops = j->s->loops, .src = (const gs_word *)image, .inside = c->inside, .inside_row = c->inside_row,
                 .height = x->dims[2], .width = x->dims[3], .pstride = x->pstride,
                 .groups = c->kgroups, .out_width = op->out[0]->dims[3], .window = gs_window_of(op),
                 .pad = gs_pad_word(x), .flip = gs_flip_word(c->k),
                 .phases = (gs_word *)((uint8_t *)open + c->open_bytes)};
  if (c->lanes_in) {
    gs_gather_lanes(&g, group * c->cin, c->cin, px0, n, c->row, scratch);
  } else {
    g.src += (size_t)group * c->kgroups * x->pstride;
    gs_gather_tile(&g, px0, n, c->row, c->close_up ? open : scratch);
  }
  if (c->close_up) j->s->loops->close_up(open, g.window.kh * g.window.kw, c->cin, n, c->row, scratch);
  return scratch;
}

/* The kernel over a tile; one that wants it wide gets it in pieces that stay in the first cache. */
static void run_tile(const conv_state *c, const gs_mm_args *a, uint8_t *scratch) {
  if (c->wide) gs_run_wide(c->k, a, (int16_t *)(void *)(scratch + c->x_bytes));
  else c->k->run(a);
}

static void conv_task(void *arg, uint32_t index, uint32_t thread) {
  const job *j = arg;
  const conv_state *c = j->c;
  const gs_op *op = j->node->op;
  const gs_tensor *x = op->in[0], *y = op->out[0];
  uint32_t split = index % c->splits, tile = index / c->splits % c->tiles;
  uint32_t group = index / c->splits / c->tiles % c->groups, image = index / c->splits / c->tiles / c->groups;
  uint32_t px0 = tile * c->tile, n = c->pixels - px0 < c->tile ? c->pixels - px0 : c->tile;
  const gs_packed *w = &c->packed[group];
  uint8_t *scratch = gs_scratch(j->s, thread);
  const uint8_t *xi = (const uint8_t *)j->node->in[0] + (size_t)image * gs_plane_groups(x) * x->pstride * 4;
  uint8_t *yi = (uint8_t *)j->node->out[0] + (size_t)image * gs_plane_groups(y) * y->pstride * 4;
  gs_mm_args a = {.npx = gs_round_px(n), .w = w, .lo = op->f[GS_F_LO], .hi = op->f[GS_F_HI]};
  if (c->pixels > 1 && a.npx < GS_PX) a.npx = GS_PX; /* a last tile of one pixel */
  a.x = c->inner ? inner_tile(j, image, px0, n, scratch, thread) : tile_x(j, xi, group, px0, n, scratch);
  a.x_stride = (size_t)(c->direct ? x->pstride : c->row) * 4;
  a.block0 = (uint32_t)((uint64_t)w->row_blocks * split / c->splits);
  a.block1 = (uint32_t)((uint64_t)w->row_blocks * (split + 1) / c->splits);
  a.q.scale = w->scale;
  a.q.zp = y->zp;
  a.q.lo = op->p[GS_P_QLO];
  a.q.hi = op->p[GS_P_QHI];
  if (c->lanes_out) {
    a.y = scratch + c->x_bytes + c->wide_bytes;
    a.y_stride = (size_t)c->row * 4;
    run_tile(c, &a, scratch);
    scatter_lanes(c, y, a.y, group, a.block0 * c->k->rows, a.block1 * c->k->rows, px0, n, yi);
    return;
  }
  a.y = yi + ((size_t)group * gs_ceil_div(c->cout, gs_block(y->dtype)) * y->pstride + px0) * 4;
  a.y_stride = (size_t)y->pstride * 4;
  run_tile(c, &a, scratch);
}

gs_status gs_conv_run(gs_session *s, gs_node *node, gs_error *error) {
  (void)error;
  const conv_state *c = node->state;
  job j = {s, node, c};
  gs_pool_run(s->pool, node->op->out[0]->dims[0] * c->groups * c->tiles * c->splits, conv_task, &j);
  return GS_OK;
}

void gs_conv_release(gs_node *node) {
  conv_state *c = node->state;
  if (!c) return;
  for (uint32_t g = 0; g < c->groups; g++) gs_packed_free(&c->packed[g]);
  gs_free(c);
  node->state = NULL;
}
