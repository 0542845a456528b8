/* Follows the arena through the plan: every 64-byte line remembers the tensor written there last, and a read of a
 * tensor finds its own number on all of its lines or the plan is refused. */
#include "container.h"

static bool overlap(const gs_tensor *a, const gs_tensor *b) {
  return a->offset < b->offset + b->size && b->offset < a->offset + a->size;
}

/* Operators that read element i and then write element i may work in place: output and input are the same bytes. */
static bool in_place(const gs_op *op, const gs_tensor *x, const gs_tensor *y) {
  if (x->offset != y->offset || x->size != y->size || x->layout != y->layout) return false;
  if (op->kind == GS_OP_RESHAPE) return true;
  bool elementwise = op->kind == GS_OP_UNARY || op->kind == GS_OP_LUT || op->kind == GS_OP_BINARY;
  return elementwise && gs_same_shape(x, y);
}

typedef struct {
  const gs_model *model;
  uint32_t *lines; /* tensor number + 1 of the last writer; 0: nobody */
} live_map;

static uint32_t number_of(const live_map *map, const gs_tensor *t) { return (uint32_t)(t - map->model->tensors); }

static void write_lines(live_map *map, const gs_tensor *t) {
  uint32_t mark = number_of(map, t) + 1;
  for (uint64_t l = t->offset / GS_ALIGN, end = (t->offset + t->size + GS_ALIGN - 1) / GS_ALIGN; l < end; l++)
    map->lines[l] = mark;
}

/* The tensor that overwrote part of t, or NULL. */
static const gs_tensor *overwriter(const live_map *map, const gs_tensor *t) {
  uint32_t mark = number_of(map, t) + 1;
  for (uint64_t l = t->offset / GS_ALIGN, end = (t->offset + t->size + GS_ALIGN - 1) / GS_ALIGN; l < end; l++)
    if (map->lines[l] != mark) return &map->model->tensors[map->lines[l] - 1];
  return NULL;
}

static gs_status check_op(live_map *map, const gs_op *op, gs_error *error) {
  for (uint32_t i = 0; i < op->n_in; i++) {
    const gs_tensor *t = op->in[i];
    if (t == NULL || t->place != GS_PLACE_ARENA) continue;
    const gs_tensor *other = overwriter(map, t);
    if (other != NULL)
      return gs_fail_op(error, GS_E_FORMAT, op, "reads tensor %u '%.40s', which tensor %u '%.40s' has overwritten in the arena",
                        number_of(map, t), t->name, number_of(map, other), other->name);
    for (uint32_t o = 0; o < op->n_out; o++)
      if (overlap(t, op->out[o]) && !in_place(op, t, op->out[o]))
        return gs_fail_op(error, GS_E_FORMAT, op, "output %u (tensor %u) overlaps input %u (tensor %u) in the arena", o,
                          number_of(map, op->out[o]), i, number_of(map, t));
  }
  for (uint32_t a = 0; a < op->n_out; a++) {
    for (uint32_t b = a + 1; b < op->n_out; b++)
      if (overlap(op->out[a], op->out[b]))
        return gs_fail_op(error, GS_E_FORMAT, op, "outputs %u and %u (tensors %u, %u) overlap in the arena", a, b,
                          number_of(map, op->out[a]), number_of(map, op->out[b]));
    write_lines(map, op->out[a]);
  }
  return GS_OK;
}

static gs_status follow(live_map *map, gs_error *error) {
  const gs_model *m = map->model;
  for (uint32_t i = 0; i < m->n_inputs; i++) write_lines(map, m->inputs[i]);
  for (uint32_t i = 0; i < m->n_inputs; i++) {
    const gs_tensor *other = overwriter(map, m->inputs[i]);
    if (other != NULL)
      return gs_fail(error, GS_E_FORMAT, "plan: inputs '%.40s' and '%.40s' overlap in the arena", m->inputs[i]->name, other->name);
  }
  for (uint32_t i = 0; i < m->n_ops; i++) {
    gs_status status = check_op(map, &m->ops[i], error);
    if (status != GS_OK) return status;
  }
  for (uint32_t i = 0; i < m->n_outputs; i++) {
    const gs_tensor *other = overwriter(map, m->outputs[i]);
    if (other != NULL)
      return gs_fail(error, GS_E_FORMAT, "plan: output '%.40s' (tensor %u) is overwritten by tensor %u before the end",
                     m->outputs[i]->name, number_of(map, m->outputs[i]), number_of(map, other));
  }
  return GS_OK;
}

gs_status gs_liveness_check(const gs_model *model, gs_error *error) {
  live_map map = {model, gs_alloc((size_t)(model->arena_size / GS_ALIGN) * sizeof(uint32_t))};
  if (map.lines == NULL) return gs_fail(error, GS_E_MEMORY, "out of memory while checking the plan");
  gs_status status = follow(&map, error);
  gs_free(map.lines);
  return status;
}
