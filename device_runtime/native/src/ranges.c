/* What is known of the values of every int8 tensor before anything runs: kernels of seven bits are picked by it. */
#include "core.h"

static const gs_range ANY = {-128, 127};

static gs_range join(gs_range a, gs_range b) {
  gs_range r = {a.lo < b.lo ? a.lo : b.lo, a.hi > b.hi ? a.hi : b.hi};
  return r;
}

static gs_range of_table(const gs_tensor *table) {
  const int8_t *v = table->data;
  gs_range r = {127, -128};
  for (uint64_t i = 0; i < table->size; i++) {
    if (v[i] < r.lo) r.lo = v[i];
    if (v[i] > r.hi) r.hi = v[i];
  }
  return r;
}

/* The range of what op writes, from its clamp or from what it reads. */
static gs_range of_op(const gs_session *s, const gs_op *op) {
  switch (op->kind) {
    case GS_OP_CONV: case GS_OP_DWCONV: case GS_OP_GEMM: case GS_OP_BINARY: {
      gs_range r = {op->p[GS_P_QLO], op->p[GS_P_QHI]};
      return r;
    }
    case GS_OP_LUT: return of_table(op->in[1]);
    case GS_OP_MAXPOOL: case GS_OP_SLICE: case GS_OP_RESHAPE: case GS_OP_TRANSPOSE: case GS_OP_LAYOUT: case GS_OP_CONCAT: {
      gs_range r = gs_range_of(s, op->in[0]);
      for (uint32_t i = 1; i < op->n_in; i++)
        if (op->in[i] != NULL) r = join(r, gs_range_of(s, op->in[i]));
      return r;
    }
    default: return ANY;
  }
}

gs_range gs_range_of(const gs_session *s, const gs_tensor *t) {
  return t->dtype == GS_S8 && t->place == GS_PLACE_ARENA ? s->ranges[t - s->model->tensors] : ANY;
}

void gs_ranges_fill(gs_session *s) {
  const gs_model *m = s->model;
  for (uint32_t i = 0; i < m->n_tensors; i++) s->ranges[i] = ANY;
  for (uint32_t i = 0; i < m->n_ops; i++)
    for (uint32_t k = 0; k < m->ops[i].n_out; k++)
      if (m->ops[i].out[k]->dtype == GS_S8) s->ranges[m->ops[i].out[k] - m->tensors] = of_op(s, &m->ops[i]);
}
