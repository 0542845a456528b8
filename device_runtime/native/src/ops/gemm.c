/* Gemm: rows of x times packed weights. Few rows: one matrix-vector product each. Many: rows are pixels of a tile. */
#include <string.h>

#include "mm.h"
#include "ops.h"

#define VECTOR_ROWS 4u /* up to this many rows, vectors beat a tile that is mostly empty */

typedef struct {
  const gs_mm_kernel *k;
  gs_packed packed;
  uint32_t m, kdim, n; /* x is m x kdim, y is m x n */
  uint32_t tile, tiles, splits;
  size_t x_bytes, wide_bytes; /* of the tile of words and of the int16 one behind it in scratch */
} gemm_state;

gs_status gs_gemm_check(const gs_op *op, gs_error *error) {
  GS_TRY(gs_check_operands(op, 5, 1, 1, error));
  const gs_tensor *x = op->in[0], *y = op->out[0];
  if (x->dtype != GS_F32 && x->dtype != GS_S8) GS_REFUSE("element type %d is not supported", (int)x->dtype);
  GS_TRY(gs_check_type(op, x, "the input", x->dtype, GS_LAYOUT_ROW, error));
  GS_TRY(gs_check_type(op, y, "the output", x->dtype, GS_LAYOUT_ROW, error));
  if (x->rank < 1 || x->rank != y->rank) GS_REFUSE("ranks of input (%u) and output (%u) differ", x->rank, y->rank);
  for (uint32_t i = 0; i + 1 < x->rank; i++)
    if (x->dims[i] != y->dims[i]) GS_REFUSE("dimension %u changes from %u to %u", i, x->dims[i], y->dims[i]);
  uint32_t rows = y->dims[y->rank - 1];
  GS_TRY(gs_check_clamp(op, x->dtype, error));
  GS_TRY(gs_check_bias_scale(op, x->dtype, op->in[3], op->in[4], rows, error));
  return gs_weights_check(op, rows, 1, 1, x->dims[x->rank - 1], error);
}

gs_status gs_gemm_prepare(gs_session *s, gs_node *node, gs_error *error) {
  const gs_op *op = node->op;
  const gs_tensor *x = op->in[0], *y = op->out[0];
  gemm_state *g = gs_alloc(sizeof *g);
  if (!g) return gs_fail_op(error, GS_E_MEMORY, op, "no memory for its state");
  node->state = g;
  node->state_bytes = sizeof *g;
  g->kdim = x->dims[x->rank - 1];
  g->n = y->dims[y->rank - 1];
  g->m = (uint32_t)(gs_elements(x) / g->kdim);
  bool vector = g->m <= VECTOR_ROWS;
  GS_TRY(gs_choose_mm(s, op, vector, g->kdim, &g->k, error));
  uint32_t b = gs_block(x->dtype);
  uint64_t words_in = gs_ceil_div(g->kdim, b), words_out = gs_ceil_div(g->n, b);
  g->tile = vector ? 1 : gs_tile_pixels(s, g->k, words_in, g->m);
  g->tiles = gs_ceil_div(g->m, g->tile);
  uint64_t x_bytes = (words_in * g->tile * 4 + 63) / 64 * 64;
  uint64_t wide_bytes = g->k->widen & GS_WIDE_X ? words_in * GS_WIDE_PX * 8 : 0;
  GS_TRY(gs_want_scratch(s, op, x_bytes + wide_bytes + words_out * g->tile * 4, error));
  g->x_bytes = (size_t)x_bytes;
  g->wide_bytes = (size_t)wide_bytes;
  size_t x_stride = g->wide_bytes ? GS_WIDE_PX * 8 : (size_t)g->tile * 4;
  GS_TRY(gs_pack_weights(node, g->k, g->n, 1, 1, g->kdim, 1, x_stride, g->m, false, &g->packed, error));
  g->splits = gs_row_splits(s, g->tiles, g->packed.row_blocks);
  return GS_OK;
}

/* Rows of x to words [group][pixel]; the last group of a row of int8 is filled with zeros. */
static void pack_rows(const gs_op *op, const gemm_state *g, const uint8_t *x, uint32_t n, gs_word *dst) {
  gs_word flip = gs_flip_word(g->k);
  bool floats = op->in[0]->dtype == GS_F32;
  uint32_t whole = floats ? g->kdim : g->kdim / 4;
  size_t row_bytes = (size_t)g->kdim * (floats ? 4 : 1);
  for (uint32_t p = 0; p < n; p++) {
    const uint8_t *row = x + p * row_bytes;
    gs_word *to = dst + p, v;
    for (uint32_t k = 0; k < whole; k++, to += g->tile) {
      memcpy(&v, row + (size_t)k * 4, 4);
      *to = v ^ flip;
    }
    if (floats || g->kdim % 4 == 0) continue;
    v = 0;
    memcpy(&v, row + (size_t)whole * 4, g->kdim % 4);
    *to = v ^ flip;
  }
}

/* Channels [c0, c1) of words [group][pixel] back to rows of y. */
static void unpack_rows(const gs_op *op, const gemm_state *g, const gs_word *src, uint32_t c0, uint32_t c1, uint32_t n,
                        uint8_t *y) {
  if (op->in[0]->dtype == GS_F32) {
    for (uint32_t p = 0; p < n; p++)
      for (uint32_t c = c0; c < c1; c++) ((gs_word *)y)[(size_t)p * g->n + c] = src[(size_t)c * g->tile + p];
    return;
  }
  for (uint32_t p = 0; p < n; p++)
    for (uint32_t c = c0; c < c1; c += 4)
      memcpy(y + (size_t)p * g->n + c, &src[(size_t)(c / 4) * g->tile + p], c1 - c < 4 ? c1 - c : 4);
}

typedef struct {
  const gs_session *s;
  const gs_node *node;
  const gemm_state *g;
} job;

static void gemm_task(void *arg, uint32_t index, uint32_t thread) {
  const job *j = arg;
  const gemm_state *g = j->g;
  const gs_op *op = j->node->op;
  const gs_tensor *y = op->out[0];
  bool floats = y->dtype == GS_F32;
  uint32_t split = index % g->splits, row = index / g->splits * g->tile;
  uint32_t n = g->m - row < g->tile ? g->m - row : g->tile;
  size_t item = floats ? 4 : 1;
  const uint8_t *x = (const uint8_t *)j->node->in[0] + (size_t)row * g->kdim * item;
  uint8_t *out = (uint8_t *)j->node->out[0] + (size_t)row * g->n * item;
  uint8_t *scratch = gs_scratch(j->s, thread);
  bool x_lies_right = g->tile == 1 && !g->k->x_offset && (floats || g->kdim % 4 == 0);
  bool y_lies_right = g->tile == 1 && (floats || g->n % 4 == 0);
  if (!x_lies_right) pack_rows(op, g, x, n, (gs_word *)scratch);
  gs_mm_args a = {.x = x_lies_right ? x : scratch, .x_stride = (size_t)g->tile * 4,
                  .y = y_lies_right ? out : scratch + g->x_bytes + g->wide_bytes, .y_stride = (size_t)g->tile * 4,
                  .npx = g->tile == 1 ? 1 : (n + GS_PX - 1) / GS_PX * GS_PX, .w = &g->packed,
                  .lo = op->f[GS_F_LO], .hi = op->f[GS_F_HI]};
  a.block0 = (uint32_t)((uint64_t)g->packed.row_blocks * split / g->splits);
  a.block1 = (uint32_t)((uint64_t)g->packed.row_blocks * (split + 1) / g->splits);
  a.q.scale = g->packed.scale;
  a.q.zp = y->zp;
  a.q.lo = op->p[GS_P_QLO];
  a.q.hi = op->p[GS_P_QHI];
  if (g->wide_bytes) gs_run_wide(g->k, &a, (int16_t *)(void *)(scratch + g->x_bytes));
  else g->k->run(&a);
  if (y_lies_right) return;
  uint32_t c0 = a.block0 * g->k->rows, c1 = a.block1 * g->k->rows;
  unpack_rows(op, g, (const gs_word *)a.y, c0, c1 < g->n ? c1 : g->n, n, out);
}

gs_status gs_gemm_run(gs_session *s, gs_node *node, gs_error *error) {
  (void)error;
  const gemm_state *g = node->state;
  job j = {s, node, g};
  gs_pool_run(s->pool, g->tiles * g->splits, gemm_task, &j);
  return GS_OK;
}

void gs_gemm_release(gs_node *node) {
  gemm_state *g = node->state;
  if (!g) return;
  gs_packed_free(&g->packed);
  gs_free(g);
  node->state = NULL;
}
