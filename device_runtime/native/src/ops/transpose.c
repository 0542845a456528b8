/* Transpose: any permutation of up to six dimensions, any element type. */
#include <string.h>

#include "common.h"
#include "ops.h"

gs_status gs_transpose_check(const gs_op *op, gs_error *error) {
  GS_TRY(gs_check_operands(op, 1, 1, 1, error));
  const gs_tensor *x = op->in[0], *y = op->out[0];
  GS_TRY(gs_check_type(op, x, "the input", y->dtype, GS_LAYOUT_ROW, error));
  GS_TRY(gs_check_type(op, y, "the output", x->dtype, GS_LAYOUT_ROW, error));
  uint32_t dims[GS_MAX_RANK], seen = 0;
  for (uint32_t i = 0; i < x->rank; i++) {
    GS_TRY(gs_check_param(op, i, "permutation", 0, (int64_t)x->rank - 1, error));
    if (seen >> op->p[i] & 1) GS_REFUSE("permutation names dimension %d twice", (int)op->p[i]);
    seen |= 1u << op->p[i];
    dims[i] = x->dims[op->p[i]];
  }
  return gs_check_shape(op, y, "the output", x->rank, dims, error);
}

/* Innermost two dimensions of y, strided in x. */
static void copy_plane(const uint8_t *x, size_t row_step, size_t col_step, uint8_t *y, size_t rows, size_t cols,
                       size_t item) {
  for (size_t r = 0; r < rows; r++, y += cols * item) {
    const uint8_t *from = x + r * row_step * item;
    if (col_step == 1) {
      memcpy(y, from, cols * item);
    } else if (item == 4) {
      for (size_t c = 0; c < cols; c++) ((gs_word *)y)[c] = ((const gs_word *)from)[c * col_step];
    } else if (item == 1) {
      for (size_t c = 0; c < cols; c++) y[c] = from[c * col_step];
    } else {
      for (size_t c = 0; c < cols; c++) memcpy(y + c * item, from + c * col_step * item, item);
    }
  }
}

gs_status gs_transpose_run(gs_session *s, gs_node *node, gs_error *error) {
  (void)s;
  (void)error;
  const gs_op *op = node->op;
  const gs_tensor *x = op->in[0], *y = op->out[0];
  size_t item = gs_dtype_size(x->dtype), stride[GS_MAX_RANK], step[GS_MAX_RANK + 2], at = 1;
  for (uint32_t i = x->rank; i-- > 0;) {
    stride[i] = at;
    at *= x->dims[i];
  }
  for (uint32_t i = 0; i < y->rank; i++) step[i] = stride[op->p[i]];
  uint32_t r = y->rank;
  size_t cols = r > 0 ? y->dims[r - 1] : 1, rows = r > 1 ? y->dims[r - 2] : 1;
  uint32_t coord[GS_MAX_RANK] = {0};
  const uint8_t *from = node->in[0];
  uint8_t *to = node->out[0];
  for (;;) {
    size_t base = 0;
    for (uint32_t i = 0; i + 2 < r; i++) base += coord[i] * step[i];
    copy_plane(from + base * item, r > 1 ? step[r - 2] : 0, r > 0 ? step[r - 1] : 1, to, rows, cols, item);
    to += rows * cols * item;
    uint32_t d = r > 2 ? r - 2 : 0;
    while (d > 0 && ++coord[d - 1] == y->dims[d - 1]) coord[--d] = 0;
    if (d == 0) return GS_OK;
  }
}
