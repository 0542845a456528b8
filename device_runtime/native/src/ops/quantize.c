/* Quantize: f32 to int8 or uint8, by division, rounding half to even. */
#include "common.h"
#include "ops.h"

gs_status gs_quantize_check(const gs_op *op, gs_error *error) {
  GS_TRY(gs_check_operands(op, 1, 1, 1, error));
  const gs_tensor *x = op->in[0], *y = op->out[0];
  GS_TRY(gs_check_type(op, x, "the input", GS_F32, GS_LAYOUT_ROW, error));
  if (y->dtype != GS_S8 && y->dtype != GS_U8) GS_REFUSE("output must be S8 or U8");
  GS_TRY(gs_check_type(op, y, "the output", y->dtype, GS_LAYOUT_ROW, error));
  if (!(y->scale > 0.0f)) GS_REFUSE("output has no scale");
  return gs_check_same_shape(op, x, y, error);
}

typedef struct {
  const gs_session *s;
  const gs_node *node;
} job;

static void quantize_span(void *arg, size_t first, size_t n, uint32_t thread) {
  (void)thread;
  const job *j = arg;
  const gs_node *node = j->node;
  const gs_tensor *y = node->op->out[0];
  const float *x = (const float *)node->in[0] + first;
  uint8_t *to = (uint8_t *)node->out[0] + first;
  int32_t zp = y->zp, lo = y->dtype == GS_S8 ? -128 : 0, hi = lo + 255;
  j->s->loops->quantize(x, n, y->scale, zp, lo, hi, to);
}

gs_status gs_quantize_run(gs_session *s, gs_node *node, gs_error *error) {
  (void)error;
  job j = {s, node};
  gs_run_spans(s, (size_t)gs_elements(node->op->in[0]), quantize_span, &j);
  return GS_OK;
}
