/* Lut: every unary function of bytes, one table for all or one per channel. */
#include "common.h"
#include "ops.h"

gs_status gs_lut_check(const gs_op *op, gs_error *error) {
  GS_TRY(gs_check_operands(op, 2, 3, 1, error));
  const gs_tensor *x = op->in[0], *y = op->out[0];
  if (x->dtype != GS_S8 && x->dtype != GS_U8) GS_REFUSE("input must be S8 or U8");
  if (y->dtype != GS_S8 && y->dtype != GS_U8) GS_REFUSE("output must be S8 or U8");
  GS_TRY(gs_check_same_layout(op, x, y, error));
  uint32_t tables = (uint32_t)op->p[0];
  if (tables != 1 && (x->rank < 2 || tables != x->dims[1])) GS_REFUSE("%d tables, must be 1 or one per channel", (int)op->p[0]);
  return gs_check_const(op, op->in[1], "the table", y->dtype, 256ull * tables, error);
}

gs_status gs_lut_prepare(gs_session *s, gs_node *node, gs_error *error) {
  (void)error;
  if (node->op->p[0] == 1) node->kernel = gs_pick_lut(s->options.isa_cap)->name;
  return GS_OK;
}

typedef struct {
  const gs_node *node;
  const gs_lut_kernel *k;
} job;

static void lut_span(void *arg, size_t first, size_t n, uint32_t thread) {
  (void)thread;
  const job *j = arg;
  j->k->run((const uint8_t *)j->node->in[0] + first, (uint8_t *)j->node->out[0] + first, n, j->node->in[1]);
}

/* One image of a table per channel. */
static void lut_channels(void *arg, uint32_t image, uint32_t thread) {
  (void)thread;
  const gs_node *node = ((const job *)arg)->node;
  const gs_tensor *x = node->op->in[0];
  const uint8_t *table = node->in[1];
  size_t bytes = (size_t)x->size / x->dims[0];
  const uint8_t *from = (const uint8_t *)node->in[0] + image * bytes;
  uint8_t *to = (uint8_t *)node->out[0] + image * bytes;
  if (x->layout == GS_LAYOUT_CB) {
    size_t plane = (size_t)x->pstride * 4;
    for (uint32_t c = 0; c < x->dims[1]; c++)
      for (size_t i = c / 4 * plane + c % 4; i < (c / 4 + 1) * plane; i += 4) to[i] = table[(size_t)c * 256 + from[i]];
    return;
  }
  size_t inner = bytes / x->dims[1];
  for (uint32_t c = 0; c < x->dims[1]; c++)
    for (size_t i = c * inner; i < (c + 1) * inner; i++) to[i] = table[(size_t)c * 256 + from[i]];
}

gs_status gs_lut_run(gs_session *s, gs_node *node, gs_error *error) {
  (void)error;
  job j = {node, gs_pick_lut(s->options.isa_cap)};
  if (node->op->p[0] == 1) gs_run_spans(s, (size_t)node->op->in[0]->size, lut_span, &j);
  else gs_pool_run(s->pool, node->op->in[0]->dims[0], lut_channels, &j);
  return GS_OK;
}
