/* Resize: nearest or bilinear, from indices and weights that the compiler made for every output row and column. */
#include "common.h"
#include "ops.h"

static gs_status check_axis(const gs_op *op, uint32_t first, const char *axis, uint32_t out, uint32_t size, gs_error *error) {
  const gs_tensor *index = op->in[first], *weight = op->in[first + 1];
  GS_TRY(gs_check_const(op, index, "an index table", GS_S32, 2ull * out, error));
  const int32_t *v = index->data;
  for (uint32_t i = 0; i < 2 * out; i++)
    if (v[i] < 0 || (uint32_t)v[i] >= size) GS_REFUSE("%s index %d is outside 0..%u", axis, (int)v[i], size - 1);
  if (!op->p[0]) return GS_OK; /* nearest reads no weights */
  if (!weight) GS_REFUSE("lacks the weights of its %ss", axis);
  bool q = op->in[0]->dtype == GS_S8;
  GS_TRY(gs_check_const(op, weight, "a weight table", q ? GS_S16 : GS_F32, 2ull * out, error));
  for (uint32_t i = 0; q && i < out; i++) {
    const int16_t *w = (const int16_t *)weight->data + 2 * i;
    if (w[0] < 0 || w[1] < 0 || w[0] + w[1] != 1024) GS_REFUSE("weights of %s %u do not sum to 1024", axis, i);
  }
  return GS_OK;
}

gs_status gs_resize_check(const gs_op *op, gs_error *error) {
  GS_TRY(gs_check_operands(op, 5, 1 | 2 | 8, 1, error));
  const gs_tensor *x = op->in[0], *y = op->out[0];
  if (x->dtype != GS_F32 && x->dtype != GS_S8) GS_REFUSE("element type %d is not supported", (int)x->dtype);
  GS_TRY(gs_check_type(op, x, "the input", x->dtype, GS_LAYOUT_CB, error));
  GS_TRY(gs_check_type(op, y, "the output", x->dtype, GS_LAYOUT_CB, error));
  if (x->dims[0] != y->dims[0] || x->dims[1] != y->dims[1]) GS_REFUSE("batch or channels change");
  GS_TRY(gs_check_param(op, 0, "mode", 0, 1, error));
  GS_TRY(check_axis(op, 1, "row", y->dims[2], x->dims[2], error));
  GS_TRY(check_axis(op, 3, "column", y->dims[3], x->dims[3], error));
  if (x->dtype != GS_S8) return GS_OK;
  return op->p[0] ? gs_check_multiplier(op, GS_F_RA, error) : gs_check_same_quant(op, x, y, error);
}

static void linear_f32(const gs_node *node, const float *x, float *y) {
  const gs_tensor *in = node->op->in[0], *out = node->op->out[0];
  const int32_t *yi = node->in[1], *xi = node->in[3];
  const float *yw = node->in[2], *xw = node->in[4];
  for (uint32_t oy = 0; oy < out->dims[2]; oy++, yi += 2, yw += 2) {
    const float *r0 = x + (size_t)yi[0] * in->dims[3], *r1 = x + (size_t)yi[1] * in->dims[3];
    for (uint32_t ox = 0; ox < out->dims[3]; ox++) {
      int32_t a = xi[2 * ox], b = xi[2 * ox + 1];
      float u = xw[2 * ox], v = xw[2 * ox + 1];
      *y++ = (r0[a] * u + r0[b] * v) * yw[0] + (r1[a] * u + r1[b] * v) * yw[1];
    }
  }
}

static void linear_s8(const gs_node *node, const int8_t *x, int8_t *y) {
  const gs_op *op = node->op;
  const gs_tensor *in = op->in[0], *out = op->out[0];
  const int32_t *yi = node->in[1], *xi = node->in[3];
  const int16_t *yw = node->in[2], *xw = node->in[4];
  for (uint32_t oy = 0; oy < out->dims[2]; oy++, yi += 2, yw += 2) {
    const int8_t *r0 = x + (size_t)yi[0] * in->dims[3] * 4, *r1 = x + (size_t)yi[1] * in->dims[3] * 4;
    for (uint32_t ox = 0; ox < out->dims[3]; ox++) {
      size_t a = (size_t)xi[2 * ox] * 4, b = (size_t)xi[2 * ox + 1] * 4;
      int32_t u = xw[2 * ox], v = xw[2 * ox + 1];
      for (uint32_t l = 0; l < 4; l++) {
        int32_t acc = ((r0[a + l] - in->zp) * u + (r0[b + l] - in->zp) * v) * yw[0] +
                      ((r1[a + l] - in->zp) * u + (r1[b + l] - in->zp) * v) * yw[1];
        *y++ = (int8_t)gs_requantize((float)acc * op->f[GS_F_RA], out->zp, -128, 127);
      }
    }
  }
}

static void nearest(const gs_node *node, const gs_word *x, gs_word *y) {
  const gs_tensor *in = node->op->in[0], *out = node->op->out[0];
  const int32_t *yi = node->in[1], *xi = node->in[3];
  for (uint32_t oy = 0; oy < out->dims[2]; oy++) {
    const gs_word *row = x + (size_t)yi[2 * oy] * in->dims[3];
    for (uint32_t ox = 0; ox < out->dims[3]; ox++) *y++ = row[xi[2 * ox]];
  }
}

static void resize_plane(void *arg, uint32_t plane, uint32_t thread) {
  (void)thread;
  const gs_node *node = arg;
  const gs_op *op = node->op;
  const gs_word *x = (const gs_word *)node->in[0] + (size_t)plane * op->in[0]->pstride;
  gs_word *y = (gs_word *)node->out[0] + (size_t)plane * op->out[0]->pstride;
  if (!op->p[0]) nearest(node, x, y);
  else if (op->in[0]->dtype == GS_F32) linear_f32(node, (const float *)x, (float *)y);
  else linear_s8(node, (const int8_t *)x, (int8_t *)y);
}

gs_status gs_resize_run(gs_session *s, gs_node *node, gs_error *error) {
  (void)error;
  const gs_tensor *y = node->op->out[0];
  gs_pool_run(s->pool, y->dims[0] * gs_plane_groups(y), resize_plane, node);
  return GS_OK;
}
