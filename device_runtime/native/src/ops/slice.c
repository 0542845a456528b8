/* Slice: a start and a step, forward or backward, in every dimension. */
#include "ops.h"
#include "remap.h"

#define START 0
#define STEP 6

gs_status gs_slice_check(const gs_op *op, gs_error *error) {
  GS_TRY(gs_check_operands(op, 1, 1, 1, error));
  const gs_tensor *x = op->in[0], *y = op->out[0];
  GS_TRY(gs_check_type(op, y, "the output", x->dtype, x->layout, error));
  if (x->rank != y->rank) GS_REFUSE("rank changes from %u to %u", x->rank, y->rank);
  for (uint32_t d = 0; d < x->rank; d++) {
    GS_TRY(gs_check_param(op, START + d, "start", 0, (int64_t)x->dims[d] - 1, error));
    if (op->p[STEP + d] == 0) GS_REFUSE("step of dimension %u is 0", d);
    int64_t last = op->p[START + d] + (int64_t)(y->dims[d] - 1) * op->p[STEP + d];
    if (last < 0 || last >= x->dims[d]) GS_REFUSE("dimension %u ends at %lld, outside 0..%u", d, (long long)last, x->dims[d] - 1);
  }
  return GS_OK;
}

gs_status gs_slice_prepare(gs_session *s, gs_node *node, gs_error *error) {
  (void)s;
  const gs_op *op = node->op;
  const gs_tensor *y = op->out[0];
  gs_remap *r;
  GS_TRY(gs_remap_open(node, &r, error));
  for (uint32_t d = 0; d < y->rank; d++)
    for (uint32_t i = 0; i < y->dims[d]; i++) r->map[d][i] = (int32_t)(op->p[START + d] + (int64_t)i * op->p[STEP + d]);
  gs_remap_finish(node, r);
  return GS_OK;
}

gs_status gs_slice_run(gs_session *s, gs_node *node, gs_error *error) { return gs_remap_run(s, node, error); }
void gs_slice_release(gs_node *node) { gs_remap_release(node); }
