/* Concat along any axis, row-major or channel-blocked. */
#include <string.h>

#include "common.h"
#include "ops.h"

gs_status gs_concat_check(const gs_op *op, gs_error *error) {
  if (op->n_in < 1 || op->n_in > 255) GS_REFUSE("has %u inputs, must have 1..255", op->n_in);
  GS_TRY(gs_check_operands(op, op->n_in, 0, 1, error));
  const gs_tensor *y = op->out[0];
  GS_TRY(gs_check_param(op, 0, "axis", 0, (int64_t)y->rank - 1, error));
  uint32_t axis = (uint32_t)op->p[0];
  uint64_t total = 0;
  for (uint32_t i = 0; i < op->n_in; i++) {
    const gs_tensor *x = op->in[i];
    if (!x) GS_REFUSE("input %u is absent", i);
    GS_TRY(gs_check_type(op, x, "an input", y->dtype, y->layout, error));
    GS_TRY(gs_check_same_quant(op, x, y, error));
    if (x->rank != y->rank) GS_REFUSE("input %u has rank %u, the output %u", i, x->rank, y->rank);
    for (uint32_t d = 0; d < y->rank; d++)
      if (d != axis && x->dims[d] != y->dims[d])
        GS_REFUSE("input %u has %u in dimension %u, the output %u", i, x->dims[d], d, y->dims[d]);
    total += x->dims[axis];
  }
  if (total != y->dims[axis]) GS_REFUSE("inputs make %llu, the output has %u", (unsigned long long)total, y->dims[axis]);
  return GS_OK;
}

static void concat_row_major(const gs_op *op, const gs_node *node) {
  const gs_tensor *y = op->out[0];
  uint32_t axis = (uint32_t)op->p[0];
  size_t outer = 1, inner = gs_dtype_size(y->dtype), at = 0;
  for (uint32_t d = 0; d < axis; d++) outer *= y->dims[d];
  for (uint32_t d = axis + 1; d < y->rank; d++) inner *= y->dims[d];
  size_t row = y->dims[axis] * inner;
  for (uint32_t i = 0; i < op->n_in; i++) {
    size_t bytes = op->in[i]->dims[axis] * inner;
    const uint8_t *from = node->in[i];
    uint8_t *to = (uint8_t *)node->out[0] + at;
    for (size_t o = 0; o < outer; o++, from += bytes, to += row) memcpy(to, from, bytes);
    at += bytes;
  }
}

/* Channels of x to channels from `first` of y, for image n: groups of four where they line up, else lane by lane. */
static void concat_channels(const gs_tensor *x, const gs_tensor *y, const uint8_t *from, uint8_t *to, uint32_t first) {
  uint32_t b = gs_block(y->dtype), area = y->dims[2] * y->dims[3];
  if (first % b == 0) {
    to += (size_t)(first / b) * y->pstride * 4;
    for (uint32_t g = 0; g < gs_plane_groups(x); g++)
      memcpy(to + (size_t)g * y->pstride * 4, from + (size_t)g * x->pstride * 4, (size_t)area * 4);
    return;
  }
  for (uint32_t c = 0; c < x->dims[1]; c++) {
    const uint8_t *src = from + (size_t)(c / 4) * x->pstride * 4 + c % 4;
    uint8_t *dst = to + (size_t)((first + c) / 4) * y->pstride * 4 + (first + c) % 4;
    for (uint32_t p = 0; p < area; p++) dst[(size_t)p * 4] = src[(size_t)p * 4];
  }
}

/* Rows of x to rows from `row` and columns from `col` of y, all planes of image n. */
static void concat_pixels(const gs_tensor *x, const gs_tensor *y, const uint8_t *from, uint8_t *to, uint32_t row, uint32_t col) {
  for (uint32_t g = 0; g < gs_plane_groups(y); g++)
    for (uint32_t h = 0; h < x->dims[2]; h++)
      memcpy(to + ((size_t)g * y->pstride + (size_t)(row + h) * y->dims[3] + col) * 4,
             from + ((size_t)g * x->pstride + (size_t)h * x->dims[3]) * 4, (size_t)x->dims[3] * 4);
}

static void concat_blocked(const gs_op *op, const gs_node *node) {
  const gs_tensor *y = op->out[0];
  uint32_t axis = (uint32_t)op->p[0], at = 0;
  for (uint32_t i = 0; i < op->n_in; i++) {
    const gs_tensor *x = op->in[i];
    for (uint32_t n = 0; n < x->dims[0]; n++) {
      const uint8_t *from = (const uint8_t *)node->in[i] + (size_t)n * gs_plane_groups(x) * x->pstride * 4;
      uint8_t *to = (uint8_t *)node->out[0] + (size_t)(axis == 0 ? at + n : n) * gs_plane_groups(y) * y->pstride * 4;
      if (axis == 1) concat_channels(x, y, from, to, at);
      else concat_pixels(x, y, from, to, axis == 2 ? at : 0, axis == 3 ? at : 0);
    }
    at += x->dims[axis];
  }
}

gs_status gs_concat_run(gs_session *s, gs_node *node, gs_error *error) {
  (void)s;
  (void)error;
  if (node->op->out[0]->layout == GS_LAYOUT_CB) concat_blocked(node->op, node);
  else concat_row_major(node->op, node);
  return GS_OK;
}
