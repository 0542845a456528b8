/* Dequantize: int8, uint8 or int32 to f32. */
#include "common.h"
#include "ops.h"

gs_status gs_dequantize_check(const gs_op *op, gs_error *error) {
  GS_TRY(gs_check_operands(op, 1, 1, 1, error));
  const gs_tensor *x = op->in[0], *y = op->out[0];
  if (x->dtype != GS_S8 && x->dtype != GS_U8 && x->dtype != GS_S32) GS_REFUSE("input must be S8, U8 or S32");
  GS_TRY(gs_check_type(op, x, "the input", x->dtype, GS_LAYOUT_ROW, error));
  GS_TRY(gs_check_type(op, y, "the output", GS_F32, GS_LAYOUT_ROW, error));
  if (!(x->scale > 0.0f)) GS_REFUSE("input has no scale");
  return gs_check_same_shape(op, x, y, error);
}

static void dequantize_span(void *arg, size_t first, size_t n, uint32_t thread) {
  (void)thread;
  const gs_node *node = arg;
  const gs_tensor *x = node->op->in[0];
  float *y = (float *)node->out[0] + first, scale = x->scale;
  int32_t zp = x->zp;
  if (x->dtype == GS_S8) {
    const int8_t *q = (const int8_t *)node->in[0] + first;
    for (size_t i = 0; i < n; i++) y[i] = (float)(q[i] - zp) * scale;
  } else if (x->dtype == GS_U8) {
    const uint8_t *q = (const uint8_t *)node->in[0] + first;
    for (size_t i = 0; i < n; i++) y[i] = (float)(q[i] - zp) * scale;
  } else { /* the zero point of S32 is 0 */
    const int32_t *q = (const int32_t *)node->in[0] + first;
    for (size_t i = 0; i < n; i++) y[i] = (float)q[i] * scale;
  }
}

gs_status gs_dequantize_run(gs_session *s, gs_node *node, gs_error *error) {
  (void)error;
  gs_run_spans(s, (size_t)gs_elements(node->op->in[0]), dequantize_span, node);
  return GS_OK;
}
