/* Checks that many operators share. */
#include "common.h"

#include <string.h>

gs_status gs_check_operands(const gs_op *op, uint32_t n_in, uint32_t required, uint32_t n_out, gs_error *error) {
  if (op->n_in != n_in) GS_REFUSE("has %u inputs, must have %u", op->n_in, n_in);
  if (op->n_out != n_out) GS_REFUSE("has %u outputs, must have %u", op->n_out, n_out);
  for (uint32_t i = 0; i < n_in; i++) {
    if (!op->in[i] && (required >> i & 1)) GS_REFUSE("input %u is absent", i);
    if (op->in[i] && gs_elements(op->in[i]) == 0) GS_REFUSE("input %u has no elements", i);
  }
  for (uint32_t i = 0; i < n_out; i++) {
    if (!op->out[i]) GS_REFUSE("output %u is absent", i);
    if (op->out[i]->place != GS_PLACE_ARENA) GS_REFUSE("output %u is not in the arena", i);
    if (gs_elements(op->out[i]) == 0) GS_REFUSE("output %u has no elements", i);
  }
  return GS_OK;
}

gs_status gs_check_type(const gs_op *op, const gs_tensor *t, const char *what, gs_dtype dtype, int layout,
                        gs_error *error) {
  if (t->dtype != dtype) GS_REFUSE("%s has element type %d, must be %d", what, (int)t->dtype, (int)dtype);
  if (layout >= 0 && t->layout != layout)
    GS_REFUSE("%s has layout %s, must be %s", what, t->layout == GS_LAYOUT_CB ? "CB" : "ROW",
              layout == GS_LAYOUT_CB ? "CB" : "ROW");
  return GS_OK;
}

gs_status gs_check_const(const gs_op *op, const gs_tensor *t, const char *what, gs_dtype dtype, uint64_t n,
                         gs_error *error) {
  if (t->place != GS_PLACE_CONST || !t->data) GS_REFUSE("%s is not a constant", what);
  GS_TRY(gs_check_type(op, t, what, dtype, GS_LAYOUT_ROW, error));
  if (gs_elements(t) != n)
    GS_REFUSE("%s has %llu elements, must have %llu", what, (unsigned long long)gs_elements(t), (unsigned long long)n);
  return GS_OK;
}

gs_status gs_check_shape(const gs_op *op, const gs_tensor *t, const char *what, uint32_t rank, const uint32_t *dims,
                         gs_error *error) {
  if (t->rank != rank) GS_REFUSE("%s has rank %u, must have %u", what, t->rank, rank);
  for (uint32_t i = 0; i < rank; i++)
    if (t->dims[i] != dims[i]) GS_REFUSE("%s has %u in dimension %u, must have %u", what, t->dims[i], i, dims[i]);
  return GS_OK;
}

gs_status gs_check_same_shape(const gs_op *op, const gs_tensor *x, const gs_tensor *y, gs_error *error) {
  return gs_check_shape(op, y, "the output", x->rank, x->dims, error);
}

gs_status gs_check_same_quant(const gs_op *op, const gs_tensor *x, const gs_tensor *y, gs_error *error) {
  if (x->scale != y->scale || x->zp != y->zp) GS_REFUSE("input and output have different scale or zero point");
  return GS_OK;
}

gs_status gs_check_param(const gs_op *op, uint32_t slot, const char *what, int64_t lo, int64_t hi, gs_error *error) {
  if (op->p[slot] < lo || op->p[slot] > hi)
    GS_REFUSE("%s is %d, must be within %lld..%lld", what, (int)op->p[slot], (long long)lo, (long long)hi);
  return GS_OK;
}

static bool is_multiplier(float v) { return v >= 1e-30f && v <= 1e30f; }

gs_status gs_check_multiplier(const gs_op *op, uint32_t slot, gs_error *error) {
  if (!is_multiplier(op->f[slot])) GS_REFUSE("multiplier %u is not within 1e-30..1e30", slot);
  return GS_OK;
}

gs_status gs_check_clamp(const gs_op *op, gs_dtype dtype, gs_error *error) {
  if (dtype == GS_S8) {
    GS_TRY(gs_check_param(op, GS_P_QLO, "lower clamp", -128, 127, error));
    return gs_check_param(op, GS_P_QHI, "upper clamp", op->p[GS_P_QLO], 127, error);
  }
  if (!(op->f[GS_F_LO] <= op->f[GS_F_HI])) GS_REFUSE("lower clamp is above the upper");
  return GS_OK;
}

gs_status gs_check_bias_scale(const gs_op *op, gs_dtype dtype, const gs_tensor *bias, const gs_tensor *scale,
                              uint32_t rows, gs_error *error) {
  if (bias) GS_TRY(gs_check_const(op, bias, "the bias", dtype == GS_S8 ? GS_S32 : GS_F32, rows, error));
  if (dtype != GS_S8) {
    if (scale) GS_REFUSE("has a scale, which only int8 takes");
    return GS_OK;
  }
  if (!scale) GS_REFUSE("lacks the scale of its output channels");
  GS_TRY(gs_check_const(op, scale, "the scale", GS_F32, rows, error));
  for (uint32_t i = 0; i < rows; i++) {
    float v = ((const float *)scale->data)[i];
    if (v != 0.0f && !is_multiplier(v)) GS_REFUSE("scale of output channel %u is not 0 or within 1e-30..1e30", i);
  }
  return GS_OK;
}

bool gs_is_tame(const gs_tensor *bias, const gs_tensor *scale, uint64_t k) {
  if (!scale) return true;
  for (uint64_t i = 0, n = gs_elements(scale); i < n; i++) {
    double b = bias ? ((const int32_t *)bias->data)[i] : 0, most = (b < 0 ? -b : b) + 128.0 * 255.0 * (double)k;
    if (most * ((const float *)scale->data)[i] > 2147483000.0) return false;
  }
  return true;
}

gs_window gs_window_of(const gs_op *op) {
  const int32_t *p = op->p;
  gs_window w = {(uint32_t)p[GS_P_KH], (uint32_t)p[GS_P_KW], (uint32_t)p[GS_P_SH], (uint32_t)p[GS_P_SW],
                 (uint32_t)p[GS_P_DH], (uint32_t)p[GS_P_DW], (uint32_t)p[GS_P_PT], (uint32_t)p[GS_P_PL],
                 (uint32_t)p[GS_P_PB], (uint32_t)p[GS_P_PR]};
  return w;
}

static gs_status check_axis(const gs_op *op, const char *axis, uint32_t size, uint32_t out, uint32_t k, uint32_t s,
                            uint32_t d, uint32_t before, uint32_t after, gs_error *error) {
  int64_t room = (int64_t)size + before + after - ((int64_t)(k - 1) * d + 1);
  if (room < 0) GS_REFUSE("window is larger than the padded %s", axis);
  if (out != room / s + 1)
    GS_REFUSE("output %s is %u, the window makes %lld", axis, out, (long long)(room / s + 1));
  return GS_OK;
}

gs_status gs_check_window(const gs_op *op, const gs_tensor *x, const gs_tensor *y, gs_error *error) {
  static const char *const names[] = {"window height", "window width",   "vertical stride", "horizontal stride",
                                      "row dilation",  "column dilation", "top padding",     "left padding",
                                      "bottom padding", "right padding"};
  GS_TRY(gs_check_type(op, x, "the input", x->dtype, GS_LAYOUT_CB, error));
  GS_TRY(gs_check_type(op, y, "the output", x->dtype, GS_LAYOUT_CB, error));
  if (x->dtype != GS_F32 && x->dtype != GS_S8) GS_REFUSE("element type %d is not supported", (int)x->dtype);
  if (x->rank != 4 || y->rank != 4) GS_REFUSE("input and output must have rank 4");
  for (uint32_t i = GS_P_KH; i <= GS_P_PR; i++)
    GS_TRY(gs_check_param(op, i, names[i], i < GS_P_PT, 65535, error));
  gs_window w = gs_window_of(op);
  if (y->dims[0] != x->dims[0]) GS_REFUSE("batch changes from %u to %u", x->dims[0], y->dims[0]);
  GS_TRY(check_axis(op, "height", x->dims[2], y->dims[2], w.kh, w.sh, w.dh, w.pt, w.pb, error));
  return check_axis(op, "width", x->dims[3], y->dims[3], w.kw, w.sw, w.dw, w.pl, w.pr, error);
}

void gs_valid_range(uint32_t out, uint32_t stride, int64_t offset, uint32_t size, uint32_t *first, uint32_t *last) {
  if (offset >= 0 && offset + (int64_t)(out - 1) * stride < size) { /* the common case, without a division */
    *first = 0;
    *last = out;
    return;
  }
  int64_t lo = offset >= 0 ? 0 : (-offset + stride - 1) / stride; /* first o with o*stride + offset >= 0 */
  int64_t hi = offset >= size ? 0 : (size - 1 - offset) / stride + 1; /* first o with o*stride + offset >= size */
  if (hi > out) hi = out;
  if (lo > hi) lo = hi;
  *first = (uint32_t)lo;
  *last = (uint32_t)hi;
}

gs_status gs_want_scratch(gs_session *s, const gs_op *op, uint64_t bytes, gs_error *error) {
  if (bytes > GS_SCRATCH_MAX) return gs_fail_op(error, GS_E_MEMORY, op, "needs more than 1 GiB of scratch memory");
  gs_session_need_scratch(s, (size_t)bytes);
  return GS_OK;
}

gs_status gs_check_same_layout(const gs_op *op, const gs_tensor *x, const gs_tensor *y, gs_error *error) {
  GS_TRY(gs_check_type(op, y, "the output", y->dtype, x->layout, error));
  GS_TRY(gs_check_same_shape(op, x, y, error));
  if (x->pstride != y->pstride) GS_REFUSE("input and output have different pixel strides");
  return GS_OK;
}

#define SPAN 16384u /* elements: small enough to share, large enough to be worth a hand-over */

typedef struct {
  gs_span_task task;
  void *arg;
  size_t n;
} spans;

static void span_task(void *arg, uint32_t index, uint32_t thread) {
  const spans *s = arg;
  size_t first = (size_t)index * SPAN;
  s->task(s->arg, first, s->n - first < SPAN ? s->n - first : SPAN, thread);
}

void gs_run_spans(const gs_session *s, size_t n, gs_span_task task, void *arg) {
  spans all = {task, arg, n};
  if (n) gs_pool_run(s->pool, (uint32_t)((n - 1) / SPAN + 1), span_task, &all);
}

typedef struct {
  gs_task task;
  void *arg;
  uint32_t n, size;
} batches;

static void batch_task(void *arg, uint32_t index, uint32_t thread) {
  const batches *b = arg;
  uint32_t first = index * b->size, last = b->n - first < b->size ? b->n : first + b->size;
  for (uint32_t i = first; i < last; i++) b->task(b->arg, i, thread);
}

void gs_run_batches(const gs_session *s, uint32_t n, gs_task task, void *arg) {
  uint32_t threads = gs_threads(s), size = threads == 1 ? n : gs_ceil_div(n, 2 * threads);
  batches all = {task, arg, n, size};
  if (n) gs_pool_run(s->pool, gs_ceil_div(n, size), batch_task, &all);
}
