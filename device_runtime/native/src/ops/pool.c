/* MaxPool and AveragePool over planes; four int8 channels or one f32 channel at a time. */
#include "common.h"
#include "ops.h"

/* Taps [first, last) of one axis inside [0, size), for a window that starts at `origin`. */
static void taps_inside(int64_t origin, uint32_t k, uint32_t dilation, uint32_t size, uint32_t *first, uint32_t *last) {
  gs_valid_range(k, dilation, origin, size, first, last);
}

static gs_status check_taps(const gs_op *op, const char *axis, uint32_t out, uint32_t k, uint32_t stride, uint32_t dilation,
                            uint32_t pad, uint32_t size, gs_error *error) {
  for (uint32_t o = 0; o < out; o++) {
    uint32_t first, last;
    taps_inside((int64_t)o * stride - pad, k, dilation, size, &first, &last);
    if (first >= last) GS_REFUSE("window at output %s %u lies in the padding", axis, o);
  }
  return GS_OK;
}

/* Operands, window, and that every output position has at least one tap inside the image. */
static gs_status check_pool(const gs_op *op, gs_error *error) {
  GS_TRY(gs_check_operands(op, 1, 1, 1, error));
  const gs_tensor *x = op->in[0], *y = op->out[0];
  GS_TRY(gs_check_window(op, x, y, error));
  if (x->dims[1] != y->dims[1]) GS_REFUSE("%u channels become %u", x->dims[1], y->dims[1]);
  gs_window w = gs_window_of(op);
  GS_TRY(check_taps(op, "row", y->dims[2], w.kh, w.sh, w.dh, w.pt, x->dims[2], error));
  return check_taps(op, "column", y->dims[3], w.kw, w.sw, w.dw, w.pl, x->dims[3], error);
}

gs_status gs_maxpool_check(const gs_op *op, gs_error *error) {
  GS_TRY(check_pool(op, error));
  return op->in[0]->dtype == GS_S8 ? gs_check_same_quant(op, op->in[0], op->out[0], error) : GS_OK;
}

gs_status gs_avgpool_check(const gs_op *op, gs_error *error) {
  GS_TRY(check_pool(op, error));
  GS_TRY(gs_check_param(op, GS_P_GROUPS, "flag of counted padding", 0, 1, error));
  if (op->in[0]->dtype != GS_S8) return GS_OK;
  gs_window w = gs_window_of(op);
  if ((uint64_t)w.kh * w.kw > 1u << 22) GS_REFUSE("window of %ux%u may overflow 32 bits", w.kh, w.kw);
  GS_TRY(gs_check_param(op, GS_P_ROUND, "rounding", GS_ROUND_EVEN, GS_ROUND_HALF_UP, error));
  if (op->p[GS_P_ROUND] != GS_ROUND_EVEN) GS_TRY(gs_check_same_quant(op, op->in[0], op->out[0], error));
  return gs_check_multiplier(op, GS_F_RA, error);
}

/* The part of one window inside the image: the first tap's element, and how many taps each way. */
typedef struct {
  size_t at;
  uint32_t rows, cols;
  size_t row_step, col_step; /* pixels */
  uint32_t count;            /* what an average divides by */
} taps;

static uint32_t counted(int64_t origin, uint32_t k, uint32_t dilation, uint32_t size, uint32_t before, uint32_t after) {
  uint32_t first, last; /* the padded image as one */
  taps_inside(origin + before, k, dilation, size + before + after, &first, &last);
  return last - first;
}

static taps window_taps(const gs_op *op, uint32_t oy, uint32_t ox) {
  const gs_tensor *x = op->in[0];
  gs_window w = gs_window_of(op);
  int64_t iy = (int64_t)oy * w.sh - w.pt, ix = (int64_t)ox * w.sw - w.pl;
  uint32_t y0, y1, x0, x1;
  taps_inside(iy, w.kh, w.dh, x->dims[2], &y0, &y1);
  taps_inside(ix, w.kw, w.dw, x->dims[3], &x0, &x1);
  taps t = {.rows = y1 - y0, .cols = x1 - x0, .row_step = (size_t)w.dh * x->dims[3], .col_step = w.dw};
  t.at = (size_t)(iy + (int64_t)y0 * w.dh) * x->dims[3] + (size_t)(ix + (int64_t)x0 * w.dw);
  t.count = t.rows * t.cols;
  if (op->kind == GS_OP_AVGPOOL && op->p[GS_P_GROUPS])
    t.count = counted(iy, w.kh, w.dh, x->dims[2], w.pt, w.pb) * counted(ix, w.kw, w.dw, x->dims[3], w.pl, w.pr);
  return t;
}

static void max_s8(const int8_t *x, const taps *t, int8_t *y) {
  int8_t top[4] = {-128, -128, -128, -128};
  for (uint32_t r = 0; r < t->rows; r++)
    for (uint32_t c = 0; c < t->cols; c++) {
      const int8_t *v = x + (t->at + r * t->row_step + c * t->col_step) * 4;
      for (int l = 0; l < 4; l++) top[l] = v[l] > top[l] ? v[l] : top[l];
    }
  for (int l = 0; l < 4; l++) y[l] = top[l];
}

static void max_f32(const float *x, const taps *t, float *y) {
  float top = x[t->at];
  for (uint32_t r = 0; r < t->rows; r++)
    for (uint32_t c = 0; c < t->cols; c++) {
      float v = x[t->at + r * t->row_step + c * t->col_step];
      top = v > top ? v : top;
    }
  *y = top;
}

/* The integer mean of n stored values by TFLite's rules; |sum| is at most 128 * 2^22. */
static int32_t integer_mean(int32_t sum, int32_t n, int rounding) {
  int32_t half = n / 2;
  if (rounding == GS_ROUND_HALF_UP) return (sum + 128 * n + half) / n - 128;
  return sum > 0 ? (sum + half) / n : (sum - half) / n;
}

static void average_s8(const gs_op *op, const int8_t *x, const taps *t, int8_t *y) {
  int32_t acc[4] = {0}, n = (int32_t)(t->rows * t->cols);
  for (uint32_t r = 0; r < t->rows; r++)
    for (uint32_t c = 0; c < t->cols; c++) {
      const int8_t *v = x + (t->at + r * t->row_step + c * t->col_step) * 4;
      for (int l = 0; l < 4; l++) acc[l] += v[l];
    }
  int rounding = op->p[GS_P_ROUND];
  if (rounding != GS_ROUND_EVEN) { /* padding that counts adds nothing to the sum of x - zp */
    int32_t pad = ((int32_t)t->count - n) * op->in[0]->zp;
    for (int l = 0; l < 4; l++) y[l] = (int8_t)integer_mean(acc[l] + pad, (int32_t)t->count, rounding);
    return;
  }
  float scale = op->f[GS_F_RA] / (float)t->count;
  for (int l = 0; l < 4; l++)
    y[l] = (int8_t)gs_requantize((float)(acc[l] - n * op->in[0]->zp) * scale, op->out[0]->zp, -128, 127);
}

static void average_f32(const float *x, const taps *t, float *y) {
  float sum = 0.0f;
  for (uint32_t r = 0; r < t->rows; r++)
    for (uint32_t c = 0; c < t->cols; c++) sum += x[t->at + r * t->row_step + c * t->col_step];
  *y = sum / (float)t->count;
}

static void pool_task(void *arg, uint32_t plane, uint32_t thread) {
  (void)thread;
  const gs_node *node = arg;
  const gs_op *op = node->op;
  const gs_tensor *y = op->out[0];
  const gs_word *from = (const gs_word *)node->in[0] + (size_t)plane * op->in[0]->pstride;
  gs_word *to = (gs_word *)node->out[0] + (size_t)plane * y->pstride;
  bool q = y->dtype == GS_S8, max = op->kind == GS_OP_MAXPOOL;
  for (uint32_t oy = 0; oy < y->dims[2]; oy++)
    for (uint32_t ox = 0; ox < y->dims[3]; ox++, to++) {
      taps t = window_taps(op, oy, ox);
      if (max && q) max_s8((const int8_t *)from, &t, (int8_t *)to);
      else if (max) max_f32((const float *)from, &t, (float *)to);
      else if (q) average_s8(op, (const int8_t *)from, &t, (int8_t *)to);
      else average_f32((const float *)from, &t, (float *)to);
    }
}

gs_status gs_maxpool_run(gs_session *s, gs_node *node, gs_error *error) {
  (void)error;
  const gs_tensor *y = node->op->out[0];
  gs_pool_run(s->pool, y->dims[0] * gs_plane_groups(y), pool_task, node);
  return GS_OK;
}

gs_status gs_avgpool_run(gs_session *s, gs_node *node, gs_error *error) { return gs_maxpool_run(s, node, error); }
