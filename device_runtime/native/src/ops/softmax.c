/* Softmax and LogSoftmax over one axis; int8 by a table of exponentials (NUMERICS.md). */
#include "../mathf.h"
#include "common.h"
#include "ops.h"

gs_status gs_softmax_check(const gs_op *op, gs_error *error) {
  GS_TRY(gs_check_operands(op, 2, 1, 1, error));
  const gs_tensor *x = op->in[0], *y = op->out[0];
  if (x->dtype != GS_F32 && x->dtype != GS_S8) GS_REFUSE("element type %d is not supported", (int)x->dtype);
  GS_TRY(gs_check_type(op, x, "the input", x->dtype, GS_LAYOUT_ROW, error));
  GS_TRY(gs_check_type(op, y, "the output", x->dtype, GS_LAYOUT_ROW, error));
  GS_TRY(gs_check_same_shape(op, x, y, error));
  GS_TRY(gs_check_param(op, 0, "axis", 0, (int64_t)x->rank - 1, error));
  GS_TRY(gs_check_param(op, 1, "LogSoftmax flag", 0, x->dtype == GS_F32, error));
  if (x->dtype == GS_F32) {
    if (op->in[1]) GS_REFUSE("has a table, which only int8 takes");
    return GS_OK;
  }
  if (!op->in[1]) GS_REFUSE("lacks the table of exponentials");
  GS_TRY(gs_check_const(op, op->in[1], "the table", GS_U32, 256, error));
  return gs_check_multiplier(op, GS_F_RA, error);
}

static void softmax_f32(const float *x, float *y, size_t n, size_t step, bool log) {
  float top = x[0], sum = 0.0f;
  for (size_t i = 1; i < n; i++) top = x[i * step] > top ? x[i * step] : top;
  for (size_t i = 0; i < n; i++) {
    float e = gs_expf(x[i * step] - top);
    sum += e;
    y[i * step] = log ? x[i * step] - top : e;
  }
  float shift = log ? gs_logf(sum) : 0.0f, scale = log ? 1.0f : 1.0f / sum;
  for (size_t i = 0; i < n; i++) y[i * step] = y[i * step] * scale - shift;
}

static void softmax_s8(const gs_op *op, const uint32_t *table, const int8_t *x, int8_t *y, size_t n, size_t step) {
  int top = -128;
  uint64_t sum = 0;
  for (size_t i = 0; i < n; i++) top = x[i * step] > top ? x[i * step] : top;
  for (size_t i = 0; i < n; i++) sum += table[(uint8_t)(top - x[i * step])];
  float m = op->f[GS_F_RA] / (float)sum;
  for (size_t i = 0; i < n; i++)
    y[i * step] = (int8_t)gs_requantize((float)table[(uint8_t)(top - x[i * step])] * m, op->out[0]->zp, -128, 127);
}

gs_status gs_softmax_run(gs_session *s, gs_node *node, gs_error *error) {
  (void)s;
  (void)error;
  const gs_op *op = node->op;
  const gs_tensor *x = op->in[0];
  uint32_t axis = (uint32_t)op->p[0];
  size_t outer = 1, n = x->dims[axis], inner = 1;
  for (uint32_t i = 0; i < axis; i++) outer *= x->dims[i];
  for (uint32_t i = axis + 1; i < x->rank; i++) inner *= x->dims[i];
  for (size_t o = 0; o < outer; o++)
    for (size_t i = 0; i < inner; i++) {
      size_t at = o * n * inner + i;
      if (x->dtype == GS_F32)
        softmax_f32((const float *)node->in[0] + at, (float *)node->out[0] + at, n, inner, op->p[1] != 0);
      else
        softmax_s8(op, node->in[1], (const int8_t *)node->in[0] + at, (int8_t *)node->out[0] + at, n, inner);
    }
  return GS_OK;
}
