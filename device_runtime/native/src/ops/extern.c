/* Extern: hands a partition's tensors to the backend that the caller gave. */
#include <string.h>

#include "common.h"
#include "ops.h"

gs_status gs_extern_check(const gs_op *op, gs_error *error) {
  for (uint32_t i = 0; i < op->n_in + op->n_out; i++) {
    const gs_tensor *t = i < op->n_in ? op->in[i] : op->out[i - op->n_in];
    const char *what = i < op->n_in ? "an input" : "an output";
    if (!t) GS_REFUSE("%s is absent", what);
    GS_TRY(gs_check_type(op, t, what, t->dtype, GS_LAYOUT_ROW, error));
    if (i >= op->n_in && t->place != GS_PLACE_ARENA) GS_REFUSE("%s is not in the arena", what);
  }
  GS_TRY(gs_check_param(op, 0, "partition", 0, GS_CAP_SECTIONS - 1, error));
  return gs_check_param(op, 1, "backend", GS_BACKEND_ONNXRUNTIME, GS_BACKEND_FPGA, error);
}

static gs_extern_tensor describe(const gs_tensor *t, void *data) {
  gs_extern_tensor e = {.data = data, .dtype = t->dtype, .rank = t->rank, .bytes = (size_t)t->size};
  memcpy(e.dims, t->dims, sizeof e.dims);
  return e;
}

gs_status gs_extern_prepare(gs_session *s, gs_node *node, gs_error *error) {
  static const char *const names[] = {"", "onnxruntime", "litert", "tvm", "fpga"};
  const gs_op *op = node->op;
  if (!s->options.extern_fn)
    return gs_fail_op(error, GS_E_UNSUPPORTED, op, "needs the backend '%s', and the caller gave no function to run it",
                      names[op->p[1]]);
  size_t bytes = (op->n_in + op->n_out) * sizeof(gs_extern_tensor);
  gs_extern_tensor *t = gs_alloc(bytes);
  if (!t) return gs_fail_op(error, GS_E_MEMORY, op, "no memory for its state");
  for (uint32_t i = 0; i < op->n_in; i++) t[i] = describe(op->in[i], (void *)(uintptr_t)node->in[i]);
  for (uint32_t i = 0; i < op->n_out; i++) t[op->n_in + i] = describe(op->out[i], node->out[i]);
  node->state = t;
  node->state_bytes = bytes;
  node->kernel = names[op->p[1]];
  return GS_OK;
}

gs_status gs_extern_run(gs_session *s, gs_node *node, gs_error *error) {
  const gs_op *op = node->op;
  const gs_extern_tensor *t = node->state;
  int code = s->options.extern_fn(s->options.extern_user, (uint32_t)op->p[0], t, op->n_in, t + op->n_in, op->n_out);
  if (code) return gs_fail_op(error, GS_E_BACKEND, op, "backend '%s' failed with code %d", node->kernel, code);
  return GS_OK;
}

void gs_extern_release(gs_node *node) {
  gs_free(node->state);
  node->state = NULL;
}
