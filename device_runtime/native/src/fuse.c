/* Which depthwise convolutions run inside the pointwise one that follows: tile by tile, so that what lies between them never
 * leaves the core's cache. Decided once, before operators are prepared. */
#include "core.h"

static bool is_pointwise(const gs_op *op) {
  const int32_t *p = op->p;
  return op->kind == GS_OP_CONV && p[GS_P_KH] == 1 && p[GS_P_KW] == 1 && p[GS_P_SH] == 1 && p[GS_P_SW] == 1 &&
         p[GS_P_GROUPS] == 1 && !(p[GS_P_PT] | p[GS_P_PL] | p[GS_P_PB] | p[GS_P_PR]);
}

static bool overlap(const gs_tensor *a, const gs_tensor *b) {
  return a->offset < b->offset + b->size && b->offset < a->offset + a->size;
}

static bool is_output(const gs_model *m, const gs_tensor *t) {
  for (uint32_t i = 0; i < m->n_outputs; i++)
    if (m->outputs[i] == t) return true;
  return false;
}

/* The operator that wrote what op `reader` reads in t: the last one before it; n_ops when there is none. */
static uint32_t writer_of(const gs_model *m, uint32_t reader, const gs_tensor *t) {
  for (uint32_t i = reader; i-- > 0;)
    for (uint32_t k = 0; k < m->ops[i].n_out; k++)
      if (m->ops[i].out[k] == t) return i;
  return m->n_ops;
}

/* Nobody but `reader` reads t once `writer` has written it. */
static bool read_once(const gs_model *m, uint32_t writer, uint32_t reader, const gs_tensor *t) {
  if (is_output(m, t)) return false;
  for (uint32_t i = writer + 1; i < m->n_ops; i++) {
    uint32_t times = 0;
    for (uint32_t k = 0; k < m->ops[i].n_in; k++) times += m->ops[i].in[k] == t;
    if (times > (i == reader ? 1u : 0u)) return false;
  }
  return true;
}

/* The input of the depthwise operator is still there while the pointwise one writes. */
static bool still_there(const gs_model *m, uint32_t dw, uint32_t pw) {
  const gs_tensor *x = m->ops[dw].in[0];
  for (uint32_t i = dw + 1; i <= pw; i++)
    for (uint32_t k = 0; k < m->ops[i].n_out; k++)
      if (x->place == GS_PLACE_ARENA && overlap(x, m->ops[i].out[k])) return false;
  return true;
}

void gs_fuse(gs_session *s) {
  const gs_model *m = s->model;
  for (uint32_t i = 0; i < m->n_ops; i++) {
    if (!is_pointwise(&m->ops[i])) continue;
    const gs_tensor *t = m->ops[i].in[0];
    uint32_t j = t->place == GS_PLACE_ARENA ? writer_of(m, i, t) : m->n_ops;
    if (j == m->n_ops || m->ops[j].kind != GS_OP_DWCONV || t->dims[2] * t->dims[3] == 1) continue;
    if (!read_once(m, j, i, t) || !still_there(m, j, i)) continue;
    s->nodes[i].inner = &s->nodes[j]; /* conv.c may still decline */
  }
}
