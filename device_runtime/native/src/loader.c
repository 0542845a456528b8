/* Bytes -> checked model: plan header, tensors, operators, strings; then every operator's own check. */
#include <math.h>
#include <string.h>

#include "container.h"

/* The model and everything it points to are one block; a bundle that does not start on a 64-byte boundary is copied
 * first, so that constants always do. */
typedef struct {
  gs_model model; /* first: a gs_model * is a loaded * */
  void *copy;
} loaded;

typedef struct {
  gs_plan_header h;
  const uint8_t *tensors, *ops, *refs, *inputs, *outputs;
  const char *strings;
  gs_span weights;
  const gs_container *container;
} plan;

static uint32_t u32_at(const uint8_t *p, uint64_t i) {
  uint32_t v;
  memcpy(&v, p + i * 4, 4);
  return v;
}

static gs_status over_cap(gs_error *error, const char *what, unsigned long long have, unsigned long long cap) {
  return gs_fail(error, GS_E_FORMAT, "plan: %s is %llu, above the limit of %llu", what, have, cap);
}

/* ---- plan header and strings ---- */

static bool valid_utf8(const uint8_t *s, uint32_t n) {
  for (uint32_t i = 0; i < n;) {
    uint8_t c = s[i++];
    if (c < 0x80) continue;
    uint32_t more = c >= 0xF0 ? 3 : c >= 0xE0 ? 2 : 1;
    if (c < 0xC2 || c > 0xF4 || n - i < more) return false;
    uint8_t lo = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80, hi = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
    if (s[i] < lo || s[i] > hi) return false;
    for (uint32_t k = 1; k < more; k++)
      if ((s[i + k] & 0xC0) != 0x80) return false;
    i += more;
  }
  return true;
}

static gs_status read_plan_header(const gs_container *c, plan *p, gs_error *error) {
  gs_plan_header *h = &p->h;
  if (c->plan.size < sizeof *h)
    return gs_fail(error, GS_E_FORMAT, "plan: %llu bytes are too few for its header", (unsigned long long)c->plan.size);
  memcpy(h, c->plan.data, sizeof *h);
  for (size_t i = 0; i < sizeof h->reserved; i++)
    if (h->reserved[i] != 0) return gs_fail(error, GS_E_FORMAT, "plan header: reserved bytes are not zero");
  if (h->n_tensors > GS_CAP_TENSORS) return over_cap(error, "the number of tensors", h->n_tensors, GS_CAP_TENSORS);
  if (h->n_ops > GS_CAP_OPS) return over_cap(error, "the number of operators", h->n_ops, GS_CAP_OPS);
  if (h->n_refs > GS_CAP_REFS) return over_cap(error, "the number of operands", h->n_refs, GS_CAP_REFS);
  if (h->n_inputs > GS_CAP_IO) return over_cap(error, "the number of inputs", h->n_inputs, GS_CAP_IO);
  if (h->n_outputs > GS_CAP_IO) return over_cap(error, "the number of outputs", h->n_outputs, GS_CAP_IO);
  if (h->strings_size > GS_CAP_STRINGS) return over_cap(error, "the size of strings", h->strings_size, GS_CAP_STRINGS);
  if (h->arena_size > GS_CAP_ARENA) return over_cap(error, "the arena", h->arena_size, GS_CAP_ARENA);
  if (h->arena_size % GS_ALIGN != 0)
    return gs_fail(error, GS_E_FORMAT, "plan: the arena (%llu bytes) is not a multiple of %u",
                   (unsigned long long)h->arena_size, GS_ALIGN);
  if (h->n_outputs == 0) return gs_fail(error, GS_E_FORMAT, "plan: it has no outputs");
  if (h->n_externs != c->n_externs)
    return gs_fail(error, GS_E_FORMAT, "plan: it names %u external partitions, the bundle carries %u", h->n_externs,
                   c->n_externs);
  /* Caps keep this sum far from overflow. */
  uint64_t refs_bytes = 4ull * ((uint64_t)h->n_refs + h->n_inputs + h->n_outputs);
  uint64_t need = sizeof *h + (uint64_t)h->n_tensors * sizeof(gs_tensor_rec) + (uint64_t)h->n_ops * sizeof(gs_op_rec) +
                  refs_bytes + h->strings_size;
  if (need != c->plan.size)
    return gs_fail(error, GS_E_FORMAT, "plan: its counts need %llu bytes, the section has %llu", (unsigned long long)need,
                   (unsigned long long)c->plan.size);
  p->tensors = c->plan.data + sizeof *h;
  p->ops = p->tensors + (uint64_t)h->n_tensors * sizeof(gs_tensor_rec);
  p->refs = p->ops + (uint64_t)h->n_ops * sizeof(gs_op_rec);
  p->inputs = p->refs + 4ull * h->n_refs;
  p->outputs = p->inputs + 4ull * h->n_inputs;
  p->strings = (const char *)(p->outputs + 4ull * h->n_outputs);
  p->weights = c->weights;
  p->container = c;
  if (h->strings_size == 0 || p->strings[0] != 0 || p->strings[h->strings_size - 1] != 0)
    return gs_fail(error, GS_E_FORMAT, "plan: strings must begin with the empty string and end with a NUL");
  if (!valid_utf8((const uint8_t *)p->strings, h->strings_size))
    return gs_fail(error, GS_E_FORMAT, "plan: strings are not UTF-8");
  return GS_OK;
}

static const char *string_at(const plan *p, uint32_t offset) {
  if (offset >= p->h.strings_size || (offset != 0 && p->strings[offset - 1] != 0)) return NULL;
  return p->strings + offset;
}

/* ---- tensors ---- */

static gs_status tensor_fail(gs_error *error, uint32_t i, const gs_tensor *t, const char *what, unsigned long long value) {
  return gs_fail(error, GS_E_FORMAT, "plan: tensor %u '%.60s': %s (%llu)", i, t->name, what, value);
}

static gs_status check_layout(const gs_tensor *t, uint32_t i, gs_error *error) {
  uint64_t bytes;
  if (t->layout == GS_LAYOUT_ROW) {
    if (t->pstride != 0) return tensor_fail(error, i, t, "pstride of a ROW tensor is not 0", t->pstride);
    bytes = gs_elements(t) * gs_dtype_size(t->dtype);
  } else {
    if (t->rank != 4) return tensor_fail(error, i, t, "a CB tensor must have rank 4", t->rank);
    if (t->dtype != GS_S8 && t->dtype != GS_F32)
      return tensor_fail(error, i, t, "a CB tensor must be S8 or F32, dtype", (unsigned)t->dtype);
    if (t->place == GS_PLACE_CONST) return tensor_fail(error, i, t, "a constant must be ROW, layout", t->layout);
    uint64_t pixels = (uint64_t)t->dims[2] * t->dims[3]; /* within GS_CAP_ELEMENTS */
    bool stride_ok = pixels == 1 ? t->pstride == 1 : t->pstride % GS_PX == 0 && t->pstride >= pixels;
    if (!stride_ok) return tensor_fail(error, i, t, "pstride is wrong for its plane", t->pstride);
    uint32_t b = gs_block(t->dtype);
    if (!gs_mul_size((uint64_t)t->dims[0] * gs_ceil_div(t->dims[1], b), (uint64_t)t->pstride * b, &bytes) ||
        !gs_mul_size(bytes, gs_dtype_size(t->dtype), &bytes))
      return tensor_fail(error, i, t, "its size overflows, pstride", t->pstride);
  }
  if (t->size != bytes) return tensor_fail(error, i, t, "its size does not follow from shape and dtype", t->size);
  return GS_OK;
}

static gs_status check_quantisation(const gs_tensor *t, uint32_t i, gs_error *error) {
  if (!(t->scale == 0.0f || (t->scale >= 1e-30f && t->scale <= 1e30f)))
    return gs_fail(error, GS_E_FORMAT, "plan: tensor %u '%.60s': scale %g is not 0 or within 1e-30..1e30", i, t->name,
                   (double)t->scale);
  int32_t lo = t->dtype == GS_S8 ? -128 : 0, hi = t->dtype == GS_S8 ? 127 : t->dtype == GS_U8 ? 255 : 0;
  if (t->zp < lo || t->zp > hi)
    return gs_fail(error, GS_E_FORMAT, "plan: tensor %u '%.60s': zero point %d is outside %d..%d", i, t->name, t->zp, lo, hi);
  if (t->scale != 0.0f && t->dtype != GS_S8 && t->dtype != GS_U8 && t->dtype != GS_S32)
    return tensor_fail(error, i, t, "only S8, U8 and S32 tensors have a scale, dtype", (unsigned)t->dtype);
  return GS_OK;
}

static gs_status check_place(const plan *p, gs_tensor *t, uint32_t i, gs_error *error) {
  uint64_t room = t->place == GS_PLACE_CONST ? p->weights.size : p->h.arena_size;
  if (t->offset % GS_ALIGN != 0) return tensor_fail(error, i, t, "its offset is not a multiple of 64", t->offset);
  if (t->offset > room || t->size > room - t->offset)
    return tensor_fail(error, i, t, t->place == GS_PLACE_CONST ? "it runs past the weights, offset" : "it runs past the arena, offset",
                       t->offset);
  if (t->place == GS_PLACE_CONST) t->data = p->weights.data + t->offset;
  return GS_OK;
}

static gs_status read_tensor(const plan *p, uint32_t i, gs_tensor *t, gs_error *error) {
  gs_tensor_rec r;
  memcpy(&r, p->tensors + (uint64_t)i * sizeof r, sizeof r);
  t->name = string_at(p, r.name);
  if (t->name == NULL) return gs_fail(error, GS_E_FORMAT, "plan: tensor %u: no string starts at %u", i, r.name);
  if (r.dtype < GS_F32 || r.dtype > GS_U32) return tensor_fail(error, i, t, "unknown dtype", r.dtype);
  if (r.layout > GS_LAYOUT_CB) return tensor_fail(error, i, t, "unknown layout", r.layout);
  if (r.place > GS_PLACE_CONST) return tensor_fail(error, i, t, "unknown place", r.place);
  if (r.rank > GS_MAX_RANK) return tensor_fail(error, i, t, "rank above 6", r.rank);
  if (r.reserved != 0) return tensor_fail(error, i, t, "reserved field is not zero", r.reserved);
  t->dtype = (gs_dtype)r.dtype;
  t->layout = r.layout;
  t->rank = r.rank;
  t->place = r.place;
  t->pstride = r.pstride;
  t->scale = r.scale;
  t->zp = r.zero_point;
  t->offset = r.offset;
  t->size = r.size;
  uint64_t elements = 1;
  for (uint32_t d = 0; d < GS_MAX_RANK; d++) {
    t->dims[d] = r.dims[d];
    if (d >= r.rank) {
      if (r.dims[d] != 0) return tensor_fail(error, i, t, "a dimension beyond its rank is not 0", r.dims[d]);
      continue;
    }
    if (r.dims[d] == 0 || r.dims[d] > GS_CAP_DIM)
      return tensor_fail(error, i, t, "a dimension is 0 or above 2^24", r.dims[d]);
    elements *= r.dims[d]; /* both factors are at most 2^28 */
    if (elements > GS_CAP_ELEMENTS) return tensor_fail(error, i, t, "more than 2^28 elements, dimension", r.dims[d]);
  }
  gs_status status = check_layout(t, i, error);
  if (status == GS_OK) status = check_quantisation(t, i, error);
  if (status == GS_OK) status = check_place(p, t, i, error);
  return status;
}

/* ---- operators ---- */

/* Where a tensor's value comes from: single assignment, nothing read before it is made. */
enum { NOT_MADE = 0, MADE = 1 };

static gs_status check_extern(const plan *p, const gs_op *op, gs_error *error) {
  if (op->p[0] < 0 || (uint32_t)op->p[0] >= p->h.n_externs)
    return gs_fail_op(error, GS_E_FORMAT, op, "external partition %d does not exist (%u carried)", op->p[0], p->h.n_externs);
  if (op->p[1] < 0 || (uint32_t)op->p[1] != p->container->backends[op->p[0]])
    return gs_fail_op(error, GS_E_FORMAT, op, "backend %d does not match that of partition %d", op->p[1], op->p[0]);
  return GS_OK;
}

static gs_status resolve_operands(const gs_model *m, gs_op *op, uint8_t *made, const plan *p, uint32_t first, gs_error *error) {
  for (uint32_t k = 0; k < op->n_in + op->n_out; k++) {
    uint32_t number = u32_at(p->refs, (uint64_t)first + k);
    bool output = k >= op->n_in;
    if (number == GS_NONE && !output) continue; /* stays NULL */
    if (number >= m->n_tensors)
      return gs_fail_op(error, GS_E_FORMAT, op, "operand %u: tensor %u does not exist (%u in the plan)", k, number,
                        m->n_tensors);
    const gs_tensor *t = &m->tensors[number];
    if (!output) {
      if (!made[number])
        return gs_fail_op(error, GS_E_FORMAT, op, "reads tensor %u '%.60s' before any operator has made it", number, t->name);
      op->in[k] = t;
    } else {
      if (t->place != GS_PLACE_ARENA) return gs_fail_op(error, GS_E_FORMAT, op, "writes the constant %u '%.60s'", number, t->name);
      if (made[number]) return gs_fail_op(error, GS_E_FORMAT, op, "makes tensor %u '%.60s', which was made before", number, t->name);
      op->out[k - op->n_in] = t;
    }
  }
  for (uint32_t k = 0; k < op->n_out; k++) {
    uint32_t number = (uint32_t)(op->out[k] - m->tensors);
    if (made[number]) return gs_fail_op(error, GS_E_FORMAT, op, "has tensor %u '%.60s' as an output twice", number, op->out[k]->name);
    made[number] = MADE;
  }
  return GS_OK;
}

static gs_status read_op(const gs_model *m, const plan *p, uint32_t i, gs_op *op, const gs_tensor **pointers, int32_t *ints,
                         float *floats, uint8_t *made, gs_error *error) {
  gs_op_rec r;
  memcpy(&r, p->ops + (uint64_t)i * sizeof r, sizeof r);
  memcpy(ints, r.p, sizeof r.p);
  memcpy(floats, r.f, sizeof r.f);
  op->kind = r.kind;
  op->n_in = r.n_in;
  op->n_out = r.n_out;
  op->p = ints;
  op->f = floats;
  op->name = string_at(p, r.name);
  op->source = string_at(p, r.source);
  if (op->name == NULL || op->source == NULL)
    return gs_fail(error, GS_E_FORMAT, "plan: operator %u: no string starts at %u", i, op->name == NULL ? r.name : r.source);
  if (r.kind == 0 || r.kind >= GS_OP_COUNT)
    return gs_fail(error, GS_E_FORMAT, "plan: operator %u '%.60s': unknown kind %u", i, op->name, r.kind);
  if (gs_op_types[r.kind].name == NULL)
    return gs_fail(error, GS_E_UNSUPPORTED, "plan: operator %u '%.60s': this build lacks kind %u", i, op->name, r.kind);
  for (int k = 0; k < 8; k++)
    if (isnan(floats[k])) return gs_fail_op(error, GS_E_FORMAT, op, "float parameter %d is NaN", k);
  if (r.n_out == 0) return gs_fail_op(error, GS_E_FORMAT, op, "has no output");
  uint32_t operands = op->n_in + op->n_out;
  if (r.refs > p->h.n_refs || operands > p->h.n_refs - r.refs)
    return gs_fail_op(error, GS_E_FORMAT, op, "its %u operands at %u run past the list of operands (%u)", operands, r.refs,
                      p->h.n_refs);
  op->in = pointers;
  op->out = pointers + op->n_in;
  gs_status status = resolve_operands(m, op, made, p, r.refs, error);
  if (status == GS_OK && r.kind == GS_OP_EXTERN) status = check_extern(p, op, error);
  return status;
}

/* ---- graph inputs and outputs ---- */

static gs_status read_io(gs_model *m, const plan *p, bool outputs, uint8_t *made, gs_error *error) {
  const char *what = outputs ? "output" : "input";
  uint32_t n = outputs ? m->n_outputs : m->n_inputs;
  for (uint32_t i = 0; i < n; i++) {
    uint32_t number = u32_at(outputs ? p->outputs : p->inputs, i);
    if (number >= m->n_tensors)
      return gs_fail(error, GS_E_FORMAT, "plan: %s %u: tensor %u does not exist", what, i, number);
    const gs_tensor *t = &m->tensors[number];
    if (t->place != GS_PLACE_ARENA || t->layout != GS_LAYOUT_ROW)
      return gs_fail(error, GS_E_FORMAT, "plan: %s '%.60s' must be a ROW tensor in the arena", what, t->name);
    if (outputs && !made[number])
      return gs_fail(error, GS_E_FORMAT, "plan: output '%.60s' is made by no operator", t->name);
    if (!outputs && made[number]) return gs_fail(error, GS_E_FORMAT, "plan: input '%.60s' is listed twice", t->name);
    if (!outputs) made[number] = MADE;
    (outputs ? m->outputs : m->inputs)[i] = t;
  }
  return GS_OK;
}

static gs_status read_graph(gs_model *m, const plan *p, const gs_tensor **pointers, int32_t *ints, float *floats,
                            uint8_t *made, gs_error *error) {
  for (uint32_t i = 0; i < m->n_tensors; i++) {
    gs_status status = read_tensor(p, i, &m->tensors[i], error);
    if (status != GS_OK) return status;
    made[i] = m->tensors[i].place == GS_PLACE_CONST ? MADE : NOT_MADE;
  }
  gs_status status = read_io(m, p, false, made, error);
  if (status != GS_OK) return status;
  for (uint32_t i = 0; i < m->n_ops; i++) {
    gs_op *op = &m->ops[i];
    status = read_op(m, p, i, op, pointers, ints + 28ull * i, floats + 8ull * i, made, error);
    if (status != GS_OK) return status;
    pointers += op->n_in + op->n_out;
  }
  for (uint32_t i = 0; i < m->n_tensors; i++)
    if (!made[i])
      return gs_fail(error, GS_E_FORMAT, "plan: tensor %u '%.60s' is made by no operator", i, m->tensors[i].name);
  status = read_io(m, p, true, made, error);
  if (status == GS_OK) status = gs_liveness_check(m, error);
  for (uint32_t i = 0; i < m->n_ops && status == GS_OK; i++) {
    const gs_op_type *type = &gs_op_types[m->ops[i].kind];
    if (type->check != NULL) status = type->check(&m->ops[i], error);
  }
  return status;
}

/* ---- memory ---- */

/* Operand spans of different operators may overlap in the file, so their sum, not n_refs, bounds the pointers. */
static uint64_t count_operands(const plan *p) {
  uint64_t n = 0;
  for (uint32_t i = 0; i < p->h.n_ops; i++) {
    const uint8_t *r = p->ops + (uint64_t)i * sizeof(gs_op_rec);
    n += (uint64_t)r[2] + r[3]; /* n_in, n_out */
  }
  return n;
}

static uint64_t take(uint64_t *total, uint64_t count, uint64_t size) {
  uint64_t at = *total;
  *total = (at + count * size + 15) & ~15ull; /* caps keep this below 2^40 */
  return at;
}

static gs_status build(loaded *l, const plan *p, gs_error *error) {
  gs_model *m = &l->model;
  m->n_tensors = p->h.n_tensors;
  m->n_ops = p->h.n_ops;
  m->n_inputs = p->h.n_inputs;
  m->n_outputs = p->h.n_outputs;
  m->arena_size = p->h.arena_size;
  uint64_t total = 0;
  uint64_t tensors = take(&total, m->n_tensors, sizeof(gs_tensor)), ops = take(&total, m->n_ops, sizeof(gs_op));
  uint64_t pointers = take(&total, count_operands(p), sizeof(void *));
  uint64_t io = take(&total, (uint64_t)m->n_inputs + m->n_outputs, sizeof(void *));
  uint64_t ints = take(&total, m->n_ops, 28 * sizeof(int32_t)), floats = take(&total, m->n_ops, 8 * sizeof(float));
  uint64_t made = take(&total, m->n_tensors, 1);
  if (total > SIZE_MAX / 2) return gs_fail(error, GS_E_MEMORY, "the plan needs more memory than this machine addresses");
  uint8_t *block = m->memory = gs_alloc((size_t)total);
  if (block == NULL) return gs_fail(error, GS_E_MEMORY, "out of memory for a plan of %u operators", m->n_ops);
  m->tensors = (gs_tensor *)(block + tensors);
  m->ops = (gs_op *)(block + ops);
  m->inputs = (const gs_tensor **)(block + io);
  m->outputs = m->inputs + m->n_inputs;
  for (uint32_t i = 0; i < p->container->n_externs; i++) {
    m->externs[i].data = p->container->externs[i].data;
    m->externs[i].size = (size_t)p->container->externs[i].size;
    m->externs[i].backend = p->container->backends[i];
  }
  m->n_externs = p->container->n_externs;
  m->manifest = p->container->manifest.data;
  m->manifest_size = (size_t)p->container->manifest.size;
  return read_graph(m, p, (const gs_tensor **)(block + pointers), (int32_t *)(block + ints), (float *)(block + floats),
                    block + made, error);
}

gs_status gs_model_open(const void *bytes, size_t size, gs_model **model, gs_error *error) {
  if (error != NULL) memset(error, 0, sizeof *error);
  if (model == NULL) return gs_fail(error, GS_E_ARGUMENT, "model is a null pointer");
  *model = NULL;
  if (bytes == NULL) return gs_fail(error, GS_E_ARGUMENT, "bytes is a null pointer");
  gs_container c;
  gs_status status = gs_container_read(bytes, size, &c, error);
  if (status != GS_OK) return status;
  loaded *l = gs_alloc(sizeof *l);
  if (l == NULL) return gs_fail(error, GS_E_MEMORY, "out of memory");
  if ((uintptr_t)bytes % GS_ALIGN != 0) {
    l->copy = gs_alloc(size);
    if (l->copy == NULL) {
      gs_free(l);
      return gs_fail(error, GS_E_MEMORY, "out of memory for an aligned copy of the bundle (%zu bytes)", size);
    }
    memcpy(l->copy, bytes, size);
    bytes = l->copy;
    status = gs_container_read(bytes, size, &c, error);
  }
  l->model.bytes = bytes;
  l->model.size = size;
  plan p = {0};
  if (status == GS_OK) status = read_plan_header(&c, &p, error);
  if (status == GS_OK) status = build(l, &p, error);
  if (status != GS_OK) {
    gs_model_close(&l->model);
    return status;
  }
  *model = &l->model;
  return GS_OK;
}

void gs_model_close(gs_model *model) {
  if (model == NULL) return;
  gs_free(model->memory);
  gs_free(((loaded *)model)->copy);
  gs_free(model);
}
