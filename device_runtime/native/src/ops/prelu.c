/* PRelu: negative values times a slope, one for all or one per channel. f32. */
#include "common.h"
#include "ops.h"

gs_status gs_prelu_check(const gs_op *op, gs_error *error) {
  GS_TRY(gs_check_operands(op, 2, 3, 1, error));
  const gs_tensor *x = op->in[0], *y = op->out[0], *slope = op->in[1];
  GS_TRY(gs_check_type(op, x, "the input", GS_F32, -1, error));
  GS_TRY(gs_check_type(op, y, "the output", GS_F32, -1, error));
  GS_TRY(gs_check_same_layout(op, x, y, error));
  uint64_t n = gs_elements(slope);
  if (n != 1 && (x->rank < 2 || n != x->dims[1])) GS_REFUSE("%llu slopes, must be 1 or one per channel", (unsigned long long)n);
  return gs_check_const(op, slope, "the slope", GS_F32, n, error);
}

static void prelu_plane(void *arg, uint32_t plane, uint32_t thread) {
  (void)thread;
  const gs_node *node = arg;
  const gs_tensor *x = node->op->in[0], *slopes = node->op->in[1];
  uint32_t channels = x->rank < 2 ? 1 : x->dims[1], planes = x->rank < 2 ? 1 : x->dims[0] * channels;
  size_t n = gs_stored_elements(x) / planes;
  const float *from = (const float *)node->in[0] + plane * n;
  float *to = (float *)node->out[0] + plane * n;
  float slope = ((const float *)slopes->data)[gs_elements(slopes) == 1 ? 0 : plane % channels];
  for (size_t i = 0; i < n; i++) to[i] = from[i] < 0.0f ? from[i] * slope : from[i];
}

gs_status gs_prelu_run(gs_session *s, gs_node *node, gs_error *error) {
  (void)error;
  const gs_tensor *x = node->op->in[0];
  gs_pool_run(s->pool, x->rank < 2 ? 1 : x->dims[0] * x->dims[1], prelu_plane, node);
  return GS_OK;
}
