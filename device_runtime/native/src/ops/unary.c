/* Unary: one f32 function of every element. */
#include "../mathf.h"
#include "common.h"
#include "ops.h"

gs_status gs_unary_check(const gs_op *op, gs_error *error) {
  GS_TRY(gs_check_operands(op, 1, 1, 1, error));
  const gs_tensor *x = op->in[0], *y = op->out[0];
  GS_TRY(gs_check_type(op, x, "the input", GS_F32, -1, error));
  GS_TRY(gs_check_type(op, y, "the output", GS_F32, -1, error));
  GS_TRY(gs_check_param(op, 0, "function", 0, GS_UN_COUNT - 1, error));
  return gs_check_same_layout(op, x, y, error);
}

static float gelu_tanh(float x) {
  float u = 0.7978845608f * (x + 0.044715f * x * x * x);
  return x * gs_sigmoidf(2.0f * u); /* 0.5 * (1 + tanh(u)) without the cancellation */
}

#define EACH(expression)             \
  for (size_t i = 0; i < n; i++) {   \
    float v = x[i];                  \
    y[i] = expression;               \
  }                                  \
  break

static void unary_span(void *arg, size_t first, size_t n, uint32_t thread) {
  (void)thread;
  const gs_node *node = arg;
  const float *x = (const float *)node->in[0] + first;
  float *y = (float *)node->out[0] + first;
  float a = node->op->f[0], b = node->op->f[1];
  switch (node->op->p[0]) {
    case GS_UN_CLIP: EACH(gs_clampf(v, a, b));
    case GS_UN_HARDSWISH: EACH(v * gs_clampf(v * (1.0f / 6.0f) + 0.5f, 0.0f, 1.0f));
    case GS_UN_HARDSIGMOID: EACH(gs_clampf(a * v + b, 0.0f, 1.0f));
    case GS_UN_SIGMOID: EACH(gs_sigmoidf(v));
    case GS_UN_TANH: EACH(gs_tanhf(v));
    case GS_UN_LEAKYRELU: EACH(v < 0.0f ? a * v : v);
    case GS_UN_ELU: EACH(v < 0.0f ? a * (gs_expf(v) - 1.0f) : v);
    case GS_UN_GELU: EACH(gs_geluf(v));
    case GS_UN_GELU_TANH: EACH(gelu_tanh(v));
    case GS_UN_SILU: EACH(v * gs_sigmoidf(v));
    case GS_UN_EXP: EACH(gs_expf(v));
    case GS_UN_LOG: EACH(gs_logf(v));
    case GS_UN_SQRT: EACH(gs_sqrtf(v));
    case GS_UN_RECIPROCAL: EACH(1.0f / v);
    case GS_UN_ABS: EACH(v < 0.0f ? -v : v + 0.0f); /* + 0.0: -0 becomes 0 */
    case GS_UN_NEG: EACH(-v);
    case GS_UN_ERF: EACH(gs_erff(v));
    case GS_UN_SOFTPLUS: EACH(gs_softplusf(v));
    case GS_UN_FLOOR: EACH(gs_floorf(v));
    default: EACH(gs_ceilf(v));
  }
}

gs_status gs_unary_run(gs_session *s, gs_node *node, gs_error *error) {
  (void)error;
  gs_run_spans(s, gs_stored_elements(node->op->in[0]), unary_span, node);
  return GS_OK;
}
