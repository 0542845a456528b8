/* A model ready to run: arena, one prepared node per operator, scratch; runs the nodes in order and times them. */
#include <string.h>
#include <time.h>

#include "core.h"

#define MAX_THREADS 64u

#if defined(__wasm__)
/* The page or Node provides the clock: monotonic nanoseconds as a double. */
__attribute__((import_module("gossamer"), import_name("now_ns"))) double gs_host_now_ns(void);
uint64_t gs_now_ns(void) { return (uint64_t)gs_host_now_ns(); }
#else
uint64_t gs_now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}
#endif

#if defined(__x86_64__)
#define FAMILY_FIRST GS_ISA_AVX2
#define FAMILY_LAST GS_ISA_AVX512VNNI
#elif defined(__wasm__)
#define FAMILY_FIRST GS_ISA_WASM128
#define FAMILY_LAST GS_ISA_WASMDOT
#else
#define FAMILY_FIRST GS_ISA_NEON
#define FAMILY_LAST GS_ISA_NEONDOT
#endif

static gs_status resolve_options(const gs_options *given, gs_options *out, gs_error *error) {
  const gs_options defaults = {.threads = 1, .isa_cap = GS_ISA_BEST};
  *out = given != NULL ? *given : defaults;
  if (out->threads < 1 || out->threads > MAX_THREADS)
    return gs_fail(error, GS_E_ARGUMENT, "threads is %u, expected 1 to %u", out->threads, MAX_THREADS);
#if defined(__wasm__)
  if (out->threads != 1) return gs_fail(error, GS_E_UNSUPPORTED, "the WASM build runs on one thread");
#endif
  if (out->isa_cap == GS_ISA_BEST) {
    out->isa_cap = gs_detect_isa();
    return GS_OK;
  }
  bool family = out->isa_cap >= FAMILY_FIRST && out->isa_cap <= FAMILY_LAST;
  if (strcmp(gs_isa_name(out->isa_cap), "unknown") == 0 || (out->isa_cap != GS_ISA_SCALAR && !family))
    return gs_fail(error, GS_E_ARGUMENT, "instruction set %d (%s) is not one of this build's", (int)out->isa_cap,
                   gs_isa_name(out->isa_cap));
  out->isa_cap = gs_isa_within(out->isa_cap);
  return GS_OK;
}

void gs_session_need_scratch(gs_session *s, size_t bytes) {
  /* A size that cannot be rounded up stays SIZE_MAX and makes the allocation fail. */
  size_t rounded = bytes > SIZE_MAX - GS_ALIGN ? SIZE_MAX : (bytes + GS_ALIGN - 1) & ~(size_t)(GS_ALIGN - 1);
  if (rounded > s->scratch_size) s->scratch_size = rounded;
}

static gs_status make_nodes(gs_session *s, gs_error *error) {
  const gs_model *m = s->model;
  uint64_t operands = 0;
  for (uint32_t i = 0; i < m->n_ops; i++) operands += (uint64_t)m->ops[i].n_in + m->ops[i].n_out;
  uint64_t nodes = (uint64_t)m->n_ops * sizeof(gs_node), pointed = nodes + operands * sizeof(void *);
  uint64_t total = pointed + (uint64_t)m->n_tensors * sizeof(gs_range);
  s->nodes = total <= SIZE_MAX ? gs_alloc((size_t)total) : NULL;
  s->arena = m->arena_size < SIZE_MAX - GS_ARENA_SLACK ? gs_alloc((size_t)m->arena_size + GS_ARENA_SLACK) : NULL;
  if (s->nodes == NULL || s->arena == NULL)
    return gs_fail(error, GS_E_MEMORY, "out of memory for an arena of %llu bytes", (unsigned long long)m->arena_size);
  void **pointers = (void **)((uint8_t *)s->nodes + nodes);
  s->ranges = (gs_range *)((uint8_t *)s->nodes + pointed);
  s->loops = gs_pick_loops(s->options.isa_cap);
  for (uint32_t i = 0; i < m->n_ops; i++) {
    gs_node *node = &s->nodes[i];
    const gs_op *op = node->op = &m->ops[i];
    node->kernel = "reference";
    node->in = (const void **)pointers;
    node->out = pointers + op->n_in;
    pointers += op->n_in + op->n_out;
    for (uint32_t k = 0; k < op->n_in; k++) {
      const gs_tensor *t = op->in[k];
      node->in[k] = t == NULL ? NULL : t->place == GS_PLACE_CONST ? t->data : s->arena + t->offset;
    }
    for (uint32_t k = 0; k < op->n_out; k++) node->out[k] = s->arena + op->out[k]->offset;
  }
  return GS_OK;
}

static gs_status prepare(gs_session *s, gs_error *error) {
  gs_status status = make_nodes(s, error);
  if (status != GS_OK) return status;
  if (s->options.threads > 1) {
    s->pool = gs_pool_open(s->options.threads);
    if (s->pool == NULL) return gs_fail(error, GS_E_MEMORY, "cannot start %u threads", s->options.threads);
  }
  gs_ranges_fill(s);
  gs_fuse(s);
  for (uint32_t i = 0; i < s->model->n_ops; i++) {
    const gs_op_type *type = &gs_op_types[s->nodes[i].op->kind];
    if (type->prepare == NULL) continue;
    status = type->prepare(s, &s->nodes[i], error);
    if (status != GS_OK) return status;
  }
  uint64_t scratch;
  bool fits = gs_mul_size(s->scratch_size, s->options.threads, &scratch) && scratch <= SIZE_MAX;
  s->scratch = fits ? gs_alloc((size_t)scratch) : NULL;
  if (s->scratch == NULL)
    return gs_fail(error, GS_E_MEMORY, "out of memory for %zu bytes of scratch for each of %u threads", s->scratch_size,
                   s->options.threads);
  return GS_OK;
}

gs_status gs_session_open(const gs_model *model, const gs_options *options, gs_session **session, gs_error *error) {
  if (error != NULL) memset(error, 0, sizeof *error);
  if (model == NULL || session == NULL) return gs_fail(error, GS_E_ARGUMENT, "model or session is a null pointer");
  *session = NULL;
  gs_options resolved;
  gs_status status = resolve_options(options, &resolved, error);
  if (status != GS_OK) return status;
  gs_session *s = gs_alloc(sizeof *s);
  if (s == NULL) return gs_fail(error, GS_E_MEMORY, "out of memory");
  s->model = model;
  s->options = resolved;
  status = prepare(s, error);
  if (status != GS_OK) {
    gs_session_close(s);
    return status;
  }
  *session = s;
  return GS_OK;
}

void gs_session_close(gs_session *s) {
  if (s == NULL) return;
  gs_pool_close(s->pool);
  if (s->nodes != NULL && s->arena != NULL) /* else the nodes were never filled */
    for (uint32_t i = 0; i < s->model->n_ops; i++) {
      const gs_op_type *type = &gs_op_types[s->nodes[i].op->kind];
      if (type->release != NULL && s->nodes[i].state != NULL) type->release(&s->nodes[i]);
    }
  gs_free(s->scratch);
  gs_free(s->nodes);
  gs_free(s->arena);
  gs_free(s);
}

static gs_status check_buffers(const gs_session *s, const void *const *inputs, void *const *outputs, gs_error *error) {
  const gs_model *m = s->model;
  if ((inputs == NULL && m->n_inputs != 0) || outputs == NULL)
    return gs_fail(error, GS_E_ARGUMENT, "inputs or outputs is a null pointer");
  for (uint32_t i = 0; i < m->n_inputs; i++)
    if (inputs[i] == NULL) return gs_fail(error, GS_E_ARGUMENT, "input %u '%.60s' is a null pointer", i, m->inputs[i]->name);
  for (uint32_t i = 0; i < m->n_outputs; i++)
    if (outputs[i] == NULL)
      return gs_fail(error, GS_E_ARGUMENT, "output %u '%.60s' is a null pointer", i, m->outputs[i]->name);
  return GS_OK;
}

/* Operators that only walk over what the user gave read it where it lies; an input that any other operator reads, or that is an
 * output as well, is copied to its place in the arena. */
static void take_input(gs_session *s, const gs_tensor *t, const void *data) {
  const gs_model *m = s->model;
  bool copy = (uintptr_t)data % gs_dtype_size(t->dtype) != 0;
  for (uint32_t i = 0; i < m->n_outputs; i++) copy |= m->outputs[i] == t;
  for (uint32_t i = 0; i < m->n_ops; i++)
    for (uint32_t k = 0; k < m->ops[i].n_in; k++)
      copy |= m->ops[i].in[k] == t && m->ops[i].kind != GS_OP_QUANTIZE && m->ops[i].kind != GS_OP_LAYOUT;
  if (copy) memcpy(s->arena + t->offset, data, (size_t)t->size);
  for (uint32_t i = 0; i < m->n_ops; i++)
    for (uint32_t k = 0; k < m->ops[i].n_in; k++)
      if (m->ops[i].in[k] == t) s->nodes[i].in[k] = copy ? s->arena + t->offset : data;
}

/* The share of an inner node goes from its outer node's time to its own. */
static void take_inner(const gs_session *s, uint64_t *inner_ns, uint64_t *outer, uint64_t *own) {
  uint64_t sum = 0;
  for (uint32_t t = 0; t < s->options.threads; t++) {
    sum += inner_ns[t];
    inner_ns[t] = 0;
  }
  sum /= s->options.threads;
  *own = sum < *outer ? sum : *outer;
  *outer -= *own;
}

static gs_status run(gs_session *s, const void *const *inputs, void *const *outputs, uint64_t *op_ns, gs_error *error) {
  if (error != NULL) memset(error, 0, sizeof *error);
  if (s == NULL) return gs_fail(error, GS_E_ARGUMENT, "session is a null pointer");
  gs_status status = check_buffers(s, inputs, outputs, error);
  if (status != GS_OK) return status;
  const gs_model *m = s->model;
  for (uint32_t i = 0; i < m->n_inputs; i++) take_input(s, m->inputs[i], inputs[i]);
  uint64_t before = op_ns != NULL ? gs_now_ns() : 0;
  uint64_t inner_ns[MAX_THREADS] = {0};
  s->inner_ns = op_ns != NULL ? inner_ns : NULL;
  for (uint32_t i = 0; i < m->n_ops && status == GS_OK; i++) {
    gs_node *node = &s->nodes[i];
    if (!node->is_inner) status = gs_op_types[node->op->kind].run(s, node, error);
    if (op_ns == NULL) continue;
    uint64_t after = gs_now_ns();
    op_ns[i] = after - before;
    before = after;
    if (node->inner != NULL) take_inner(s, inner_ns, &op_ns[i], &op_ns[node->inner - s->nodes]);
  }
  s->inner_ns = NULL;
  if (status != GS_OK) return status;
  for (uint32_t i = 0; i < m->n_outputs; i++)
    memcpy(outputs[i], s->arena + m->outputs[i]->offset, (size_t)m->outputs[i]->size);
  return GS_OK;
}

gs_status gs_session_run(gs_session *session, const void *const *inputs, void *const *outputs, gs_error *error) {
  return run(session, inputs, outputs, NULL, error);
}

gs_status gs_session_run_timed(gs_session *session, const void *const *inputs, void *const *outputs, uint64_t *op_ns,
                               gs_error *error) {
  if (op_ns == NULL && session != NULL && session->model->n_ops != 0)
    return gs_fail(error, GS_E_ARGUMENT, "op_ns is a null pointer");
  return run(session, inputs, outputs, op_ns, error);
}

static const char *pattern_name(const gs_op *op) {
  static const char *const names[] = {"dense", "unstructured", "1x4", "4x1", "4x4", "n:m"};
  if (op->kind == GS_OP_DWCONV) return "dense";
  if (op->kind != GS_OP_CONV && op->kind != GS_OP_GEMM) return "";
  int32_t label = op->p[GS_P_WLABEL];
  return label >= 0 && label <= GS_PATTERN_NM ? names[label] : "dense";
}

gs_status gs_session_op_info(const gs_session *session, uint32_t i, gs_op_info *info) {
  if (session == NULL || info == NULL || i >= session->model->n_ops) return GS_E_ARGUMENT;
  const gs_node *node = &session->nodes[i];
  const gs_op *op = node->op;
  memset(info, 0, sizeof *info);
  info->name = op->name;
  info->source = op->source;
  info->kind = gs_op_types[op->kind].name;
  info->pattern = pattern_name(op);
  info->kernel = node->kernel;
  info->dtype = op->out[0]->dtype;
  info->macs = node->macs;
  info->macs_executed = node->macs_executed;
  info->weight_count = node->weight_count;
  info->weight_nonzero = node->weight_nonzero;
  info->fused = node->is_inner;
  for (uint32_t k = 0; k < op->n_in; k++) {
    if (op->in[k] == NULL) continue;
    if (op->in[k]->place == GS_PLACE_CONST)
      info->bytes_weights += op->in[k]->size;
    else
      info->bytes_in += op->in[k]->size;
  }
  for (uint32_t k = 0; k < op->n_out; k++) info->bytes_out += op->out[k]->size;
  return GS_OK;
}

size_t gs_session_bytes(const gs_session *session) {
  if (session == NULL) return 0;
  size_t total = (size_t)session->model->arena_size + session->scratch_size * session->options.threads;
  for (uint32_t i = 0; i < session->model->n_ops; i++) total += session->nodes[i].state_bytes;
  return total;
}
