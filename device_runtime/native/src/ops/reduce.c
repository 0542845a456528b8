/* Reduce: mean, sum, maximum or minimum over a set of axes. */
#include "common.h"
#include "ops.h"

/* y's shape with every reduced axis kept as 1: the shape that coordinates of x map to. */
static bool matches(const gs_tensor *x, const gs_tensor *y, uint32_t axes) {
  uint32_t kept[GS_MAX_RANK], dropped[GS_MAX_RANK], n = 0;
  for (uint32_t i = 0; i < x->rank; i++) {
    kept[i] = axes >> i & 1 ? 1 : x->dims[i];
    if (!(axes >> i & 1)) dropped[n++] = x->dims[i];
  }
  bool with = y->rank == x->rank, without = y->rank == n;
  for (uint32_t i = 0; with && i < x->rank; i++) with = y->dims[i] == kept[i];
  for (uint32_t i = 0; without && i < n; i++) without = y->dims[i] == dropped[i];
  return with || without;
}

gs_status gs_reduce_check(const gs_op *op, gs_error *error) {
  GS_TRY(gs_check_operands(op, 1, 1, 1, error));
  const gs_tensor *x = op->in[0], *y = op->out[0];
  if (x->dtype != GS_F32 && x->dtype != GS_S8) GS_REFUSE("element type %d is not supported", (int)x->dtype);
  GS_TRY(gs_check_type(op, x, "the input", x->dtype, GS_LAYOUT_ROW, error));
  GS_TRY(gs_check_type(op, y, "the output", x->dtype, GS_LAYOUT_ROW, error));
  GS_TRY(gs_check_param(op, 0, "function", 0, GS_RED_COUNT - 1, error));
  GS_TRY(gs_check_param(op, 1, "set of axes", 0, (1 << x->rank) - 1, error));
  if (!matches(x, y, (uint32_t)op->p[1])) GS_REFUSE("output shape does not follow from the reduced axes");
  if (x->dtype != GS_S8) return GS_OK;
  if (op->p[0] == GS_RED_MAX || op->p[0] == GS_RED_MIN) return gs_check_same_quant(op, x, y, error);
  if (gs_elements(x) / gs_elements(y) > (2147483647u - (1u << 23)) / 255u) GS_REFUSE("sum may overflow 32 bits");
  return gs_check_multiplier(op, GS_F_RA, error);
}

/* Dimensions of x, neighbours of one kind merged, from the outermost; strides in elements. */
typedef struct {
  uint32_t n;
  size_t size[GS_MAX_RANK], stride[GS_MAX_RANK];
} dims;

static void split(const gs_op *op, dims *kept, dims *reduced) {
  const gs_tensor *x = op->in[0];
  size_t stride = (size_t)gs_elements(x);
  dims *last = NULL;
  kept->n = reduced->n = 0;
  for (uint32_t i = 0; i < x->rank; i++) {
    stride /= x->dims[i];
    dims *d = (uint32_t)op->p[1] >> i & 1 ? reduced : kept;
    if (d == last) {
      d->size[d->n - 1] *= x->dims[i];
      d->stride[d->n - 1] = stride;
    } else {
      d->size[d->n] = x->dims[i];
      d->stride[d->n++] = stride;
    }
    last = d;
  }
}

/* Offset of element `index` of the merged dimensions. */
static size_t offset_of(const dims *d, size_t index) {
  size_t at = 0;
  for (uint32_t i = d->n; i-- > 0;) {
    at += index % d->size[i] * d->stride[i];
    index /= d->size[i];
  }
  return at;
}

static float pick_f32(int kind, float acc, float v) {
  if (kind == GS_RED_MAX) return v > acc ? v : acc;
  if (kind == GS_RED_MIN) return v < acc ? v : acc;
  return acc + v;
}

static int32_t pick_s32(int kind, int32_t acc, int32_t v) {
  if (kind == GS_RED_MAX) return v > acc ? v : acc;
  if (kind == GS_RED_MIN) return v < acc ? v : acc;
  return acc + v;
}

typedef struct {
  const gs_node *node;
  dims kept, reduced;
  size_t count;
} job;

/* Sums in runs along the innermost reduced dimension, so that rounding of f32 grows with the run, not the whole. */
static void reduce_one(const job *j, size_t out) {
  const gs_op *op = j->node->op;
  const gs_tensor *x = op->in[0], *y = op->out[0];
  int kind = op->p[0];
  bool extreme = kind == GS_RED_MAX || kind == GS_RED_MIN;
  size_t base = offset_of(&j->kept, out);
  size_t run = j->reduced.n ? j->reduced.size[j->reduced.n - 1] : 1, step = j->reduced.n ? j->reduced.stride[j->reduced.n - 1] : 1;
  if (x->dtype == GS_F32) {
    const float *v = (const float *)j->node->in[0] + base;
    float acc = extreme ? v[0] : 0.0f;
    for (size_t i = 0; i < j->count; i += run) {
      const float *r = v + offset_of(&j->reduced, i);
      float part = extreme ? acc : 0.0f;
      for (size_t k = 0; k < run; k++) part = pick_f32(kind, part, r[k * step]);
      acc = extreme ? part : acc + part;
    }
    ((float *)j->node->out[0])[out] = kind == GS_RED_MEAN ? acc / (float)j->count : acc;
    return;
  }
  const int8_t *v = (const int8_t *)j->node->in[0] + base;
  int32_t acc = extreme ? v[0] : 0, zero = extreme ? 0 : x->zp;
  for (size_t i = 0; i < j->count; i += run) {
    const int8_t *r = v + offset_of(&j->reduced, i);
    for (size_t k = 0; k < run; k++) acc = pick_s32(kind, acc, r[k * step] - zero);
  }
  ((int8_t *)j->node->out[0])[out] =
      (int8_t)(extreme ? acc : gs_requantize((float)acc * op->f[GS_F_RA], y->zp, -128, 127));
}

static void reduce_span(void *arg, size_t first, size_t n, uint32_t thread) {
  (void)thread;
  for (size_t i = first; i < first + n; i++) reduce_one(arg, i);
}

gs_status gs_reduce_run(gs_session *s, gs_node *node, gs_error *error) {
  (void)error;
  job j = {.node = node};
  split(node->op, &j.kept, &j.reduced);
  size_t outputs = (size_t)gs_elements(node->op->out[0]);
  j.count = (size_t)gs_elements(node->op->in[0]) / outputs;
  gs_run_spans(s, outputs, reduce_span, &j);
  return GS_OK;
}
