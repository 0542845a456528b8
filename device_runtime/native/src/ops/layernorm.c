/* LayerNorm: mean 0 and variance 1 over the last axes, then gamma and beta. f32. */
#include "../mathf.h"
#include "common.h"
#include "ops.h"

static size_t row_length(const gs_op *op) {
  size_t n = 1;
  for (uint32_t i = (uint32_t)op->p[0]; i < op->in[0]->rank; i++) n *= op->in[0]->dims[i];
  return n;
}

gs_status gs_layernorm_check(const gs_op *op, gs_error *error) {
  GS_TRY(gs_check_operands(op, 3, 1, 1, error));
  const gs_tensor *x = op->in[0], *y = op->out[0];
  GS_TRY(gs_check_type(op, x, "the input", GS_F32, GS_LAYOUT_ROW, error));
  GS_TRY(gs_check_type(op, y, "the output", GS_F32, GS_LAYOUT_ROW, error));
  GS_TRY(gs_check_same_shape(op, x, y, error));
  GS_TRY(gs_check_param(op, 0, "first axis", 0, (int64_t)x->rank - 1, error));
  if (!(op->f[0] >= 0.0f && op->f[0] <= 1e30f)) GS_REFUSE("epsilon is not within 0..1e30");
  for (uint32_t i = 1; i < 3; i++)
    if (op->in[i]) GS_TRY(gs_check_const(op, op->in[i], i == 1 ? "gamma" : "beta", GS_F32, row_length(op), error));
  return GS_OK;
}

gs_status gs_layernorm_run(gs_session *s, gs_node *node, gs_error *error) {
  (void)s;
  (void)error;
  const gs_op *op = node->op;
  size_t n = row_length(op), rows = (size_t)gs_elements(op->in[0]) / n;
  const float *x = node->in[0], *gamma = node->in[1], *beta = node->in[2];
  float *y = node->out[0];
  for (size_t r = 0; r < rows; r++, x += n, y += n) {
    double sum = 0, squares = 0; /* in double: the spread may be small beside the mean */
    for (size_t i = 0; i < n; i++) sum += x[i];
    double mean = sum / (double)n;
    for (size_t i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
    float scale = 1.0f / gs_sqrtf((float)(squares / (double)n) + op->f[0]);
    for (size_t i = 0; i < n; i++) {
      float v = (float)(x[i] - mean) * scale;
      y[i] = v * (gamma ? gamma[i] : 1.0f) + (beta ? beta[i] : 0.0f);
    }
  }
  return GS_OK;
}
