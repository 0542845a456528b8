/* Pad: a constant, the nearest element, or a mirror image around x. */
#include <string.h>

#include "ops.h"
#include "remap.h"

#define BEFORE 1
#define AFTER 7
#define VALUE 13

gs_status gs_pad_check(const gs_op *op, gs_error *error) {
  GS_TRY(gs_check_operands(op, 1, 1, 1, error));
  const gs_tensor *x = op->in[0], *y = op->out[0];
  if (x->dtype != GS_F32 && x->dtype != GS_S8 && x->dtype != GS_U8) GS_REFUSE("element type %d is not supported", (int)x->dtype);
  GS_TRY(gs_check_type(op, y, "the output", x->dtype, x->layout, error));
  GS_TRY(gs_check_param(op, 0, "mode", 0, GS_PAD_COUNT - 1, error));
  if (x->rank != y->rank) GS_REFUSE("rank changes from %u to %u", x->rank, y->rank);
  for (uint32_t d = 0; d < x->rank; d++) {
    int64_t most = op->p[0] == GS_PAD_REFLECT ? (int64_t)x->dims[d] - 1 : GS_CAP_DIM;
    GS_TRY(gs_check_param(op, BEFORE + d, "padding before", 0, most, error));
    GS_TRY(gs_check_param(op, AFTER + d, "padding after", 0, most, error));
    uint64_t size = (uint64_t)x->dims[d] + (uint32_t)op->p[BEFORE + d] + (uint32_t)op->p[AFTER + d];
    if (y->dims[d] != size) GS_REFUSE("output has %u in dimension %u, must have %llu", y->dims[d], d, (unsigned long long)size);
  }
  if (x->dtype == GS_F32 || op->p[0] != GS_PAD_CONSTANT) return GS_OK;
  int lo = x->dtype == GS_S8 ? -128 : 0;
  return gs_check_param(op, VALUE, "constant", lo, lo + 255, error);
}

static int32_t source(int mode, int64_t i, int64_t size) {
  if (i >= 0 && i < size) return (int32_t)i;
  if (mode == GS_PAD_CONSTANT) return -1;
  if (mode == GS_PAD_EDGE) return i < 0 ? 0 : (int32_t)(size - 1);
  return (int32_t)(i < 0 ? -i : 2 * (size - 1) - i);
}

gs_status gs_pad_prepare(gs_session *s, gs_node *node, gs_error *error) {
  (void)s;
  const gs_op *op = node->op;
  const gs_tensor *x = op->in[0], *y = op->out[0];
  gs_remap *r;
  GS_TRY(gs_remap_open(node, &r, error));
  for (uint32_t d = 0; d < y->rank; d++)
    for (uint32_t i = 0; i < y->dims[d]; i++) r->map[d][i] = source(op->p[0], (int64_t)i - op->p[BEFORE + d], x->dims[d]);
  if (x->dtype == GS_F32) memcpy(&r->fill, &op->f[0], 4);
  else memset(&r->fill, op->p[VALUE], sizeof r->fill);
  gs_remap_finish(node, r);
  return GS_OK;
}

gs_status gs_pad_run(gs_session *s, gs_node *node, gs_error *error) { return gs_remap_run(s, node, error); }
void gs_pad_release(gs_node *node) { gs_remap_release(node); }
