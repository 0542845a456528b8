/* MaxPool and AveragePool over planes; four int8 channels or one f32 channel at a time. */
#include <string.h>

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

/* Input columns from the first that a row of outputs reads to the last, padding included. */
static uint32_t columns_read(const gs_window *w, const gs_tensor *y) { return (y->dims[3] - 1) * w->sw + (w->kw - 1) * w->dw + 1; }

/* Scratch of one thread: maxima over rows, and of those over columns. */
gs_status gs_maxpool_prepare(gs_session *s, gs_node *node, gs_error *error) {
  gs_window w = gs_window_of(node->op);
  return gs_want_scratch(s, node->op, (uint64_t)columns_read(&w, node->op->out[0]) * 8, error);
}

/* Scratch of one thread: sums of one output row (S8), then taps inside per output column. */
gs_status gs_avgpool_prepare(gs_session *s, gs_node *node, gs_error *error) {
  return gs_want_scratch(s, node->op, (uint64_t)node->op->out[0]->dims[3] * 20, error);
}

/* Folds taps into a row of running sums: n taps that lie step pixels apart, each into an output of its own, or
 * all into the one output (one). */
typedef void (*fold_fn)(const void *x, void *y, size_t step, size_t n, bool one);

static void fold_sum_s8(const void *x, void *y, size_t step, size_t n, bool one) {
  const int8_t *from = x;
  int32_t *to = y;
  if (one) {
    int32_t acc[4] = {to[0], to[1], to[2], to[3]};
    for (size_t i = 0; i < n; i++)
      for (size_t l = 0; l < 4; l++) acc[l] += from[i * step * 4 + l];
    memcpy(to, acc, sizeof acc);
    return;
  }
  if (step == 1) {
    for (size_t i = 0; i < n * 4; i++) to[i] += from[i];
    return;
  }
  for (size_t i = 0; i < n; i++)
    for (size_t l = 0; l < 4; l++) to[i * 4 + l] += from[i * step * 4 + l];
}

static void fold_sum_f32(const void *x, void *y, size_t step, size_t n, bool one) {
  const float *from = x;
  float *to = y;
  if (one) {
    float acc = 0.0f;
    for (size_t i = 0; i < n; i++) acc += from[i * step];
    *to += acc;
    return;
  }
  if (step == 1) {
    for (size_t i = 0; i < n; i++) to[i] += from[i];
    return;
  }
  for (size_t i = 0; i < n; i++) to[i] += from[i * step];
}

/* item: bytes that y holds per output pixel. */
static void fold_row(const gs_op *op, const gs_word *plane, uint32_t oy, fold_fn fold, uint8_t *y, size_t item) {
  const gs_tensor *x = op->in[0], *out = op->out[0];
  gs_window w = gs_window_of(op);
  int64_t iy = (int64_t)oy * w.sh - w.pt;
  uint32_t ky, ky1, first, last;
  taps_inside(iy, w.kh, w.dh, x->dims[2], &ky, &ky1);
  for (; ky < ky1; ky++) {
    const gs_word *row = plane + (size_t)(iy + (int64_t)ky * w.dh) * x->dims[3];
    if (out->dims[3] == 1) {
      taps_inside(-(int64_t)w.pl, w.kw, w.dw, x->dims[3], &first, &last);
      fold(row + ((int64_t)first * w.dw - w.pl), y, w.dw, last - first, true);
      continue;
    }
    for (uint32_t kx = 0; kx < w.kw; kx++) {
      int64_t ix = (int64_t)kx * w.dw - w.pl;
      gs_valid_range(out->dims[3], w.sw, ix, x->dims[3], &first, &last);
      if (first < last) fold(row + (ix + (int64_t)first * w.sw), y + first * item, w.sw, last - first, false);
    }
  }
}

static uint32_t counted(int64_t origin, uint32_t k, uint32_t dilation, uint32_t size, uint32_t before, uint32_t after) {
  uint32_t first, last; /* the padded image as one */
  taps_inside(origin + before, k, dilation, size + before + after, &first, &last);
  return last - first;
}

/* The integer mean of n stored values by TFLite's rules; |sum| is at most 128 * 2^22. */
static int32_t integer_mean(int32_t sum, int32_t n, int32_t rounding) {
  int32_t half = n / 2;
  if (rounding == GS_ROUND_HALF_UP) return (sum + 128 * n + half) / n - 128;
  return sum > 0 ? (sum + half) / n : (sum - half) / n;
}

/* Sums of one row to averages. inside: taps inside per output column. */
static void finish_row(const gs_op *op, uint32_t oy, const int32_t *sums, const uint32_t *inside, gs_word *y) {
  const gs_tensor *x = op->in[0], *out = op->out[0];
  gs_window w = gs_window_of(op);
  int64_t iy = (int64_t)oy * w.sh - w.pt;
  uint32_t rows = counted(iy, w.kh, w.dh, x->dims[2], 0, 0);
  uint32_t all_rows = op->p[GS_P_GROUPS] ? counted(iy, w.kh, w.dh, x->dims[2], w.pt, w.pb) : rows;
  uint32_t divisor = 0;
  float scale = 0.0f;
  for (uint32_t ox = 0; ox < out->dims[3]; ox++) {
    uint32_t cols = op->p[GS_P_GROUPS] ? counted((int64_t)ox * w.sw - w.pl, w.kw, w.dw, x->dims[3], w.pl, w.pr) : inside[ox];
    if (all_rows * cols != divisor) {
      divisor = all_rows * cols;
      scale = op->f[GS_F_RA] / (float)divisor;
    }
    if (out->dtype == GS_F32) {
      ((float *)y)[ox] /= (float)divisor;
      continue;
    }
    int32_t taps = (int32_t)(rows * inside[ox]);
    for (uint32_t l = 0; l < 4; l++) {
      if (op->p[GS_P_ROUND] != GS_ROUND_EVEN) { /* padding that counts reads as the zero point */
        int32_t sum = sums[ox * 4 + l] + ((int32_t)divisor - taps) * x->zp;
        ((int8_t *)y)[ox * 4 + l] = (int8_t)integer_mean(sum, (int32_t)divisor, op->p[GS_P_ROUND]);
        continue;
      }
      float v = (float)(sums[ox * 4 + l] - taps * x->zp) * scale;
      ((int8_t *)y)[ox * 4 + l] = (int8_t)gs_requantize(v, out->zp, -128, 127);
    }
  }
}

typedef struct {
  const gs_session *s;
  const gs_node *node;
} job;

static void fold_max(const gs_loops *loops, gs_dtype dtype, const gs_word *x, size_t n, gs_word *y) {
  if (dtype == GS_S8) loops->max_s8((const int8_t *)x, n, (int8_t *)y);
  else loops->max_f32((const float *)x, n, (float *)y);
}

/* A maximum of rows, then of columns as they lie side by side; the stride only picks among those. */
static void maxpool_task(void *arg, uint32_t plane, uint32_t thread) {
  const job *j = arg;
  const gs_op *op = j->node->op;
  const gs_tensor *x = op->in[0], *y = op->out[0];
  const gs_loops *loops = j->s->loops;
  gs_window w = gs_window_of(op);
  const gs_word *from = (const gs_word *)j->node->in[0] + (size_t)plane * x->pstride;
  gs_word *to = (gs_word *)j->node->out[0] + (size_t)plane * y->pstride;
  gs_word least = y->dtype == GS_S8 ? 0x80808080u : 0xFF800000u; /* -128 four times, -inf */
  uint32_t cols = columns_read(&w, y), left = w.pl < cols ? w.pl : cols, have = cols - left < x->dims[3] ? cols - left : x->dims[3];
  uint32_t wanted = (y->dims[3] - 1) * w.sw + 1;
  gs_word *rows = gs_scratch(j->s, thread), *columns = rows + cols;
  for (uint32_t i = 0; i < cols; i++) rows[i] = least;
  for (uint32_t oy = 0; oy < y->dims[2]; oy++, to += y->dims[3]) {
    int64_t iy = (int64_t)oy * w.sh - w.pt;
    uint32_t ky, ky1;
    taps_inside(iy, w.kh, w.dh, x->dims[2], &ky, &ky1);
    memcpy(rows + left, from + (size_t)(iy + (int64_t)ky * w.dh) * x->dims[3], (size_t)have * 4);
    while (++ky < ky1) fold_max(loops, y->dtype, from + (size_t)(iy + (int64_t)ky * w.dh) * x->dims[3], have, rows + left);
    memcpy(columns, rows, (size_t)wanted * 4);
    for (uint32_t kx = 1; kx < w.kw; kx++) fold_max(loops, y->dtype, rows + (size_t)kx * w.dw, wanted, columns);
    loops->gather(columns, 0, 1, y->dims[3], w.sw, 0, to, 0);
  }
}

static void avgpool_task(void *arg, uint32_t plane, uint32_t thread) {
  const job *j = arg;
  const gs_op *op = j->node->op;
  const gs_tensor *x = op->in[0], *y = op->out[0];
  gs_window w = gs_window_of(op);
  const gs_word *from = (const gs_word *)j->node->in[0] + (size_t)plane * x->pstride;
  gs_word *to = (gs_word *)j->node->out[0] + (size_t)plane * y->pstride;
  int32_t *sums = gs_scratch(j->s, thread);
  uint32_t *inside = (uint32_t *)sums + (size_t)y->dims[3] * 4;
  bool q = y->dtype == GS_S8;
  /* A window that is the whole plane is one run of pixels. */
  bool whole = y->dims[2] * y->dims[3] == 1 && w.kh == x->dims[2] && w.kw == x->dims[3] && w.dh == 1 && w.dw == 1 && !(w.pt | w.pl);
  for (uint32_t ox = 0; ox < y->dims[3]; ox++)
    inside[ox] = counted((int64_t)ox * w.sw - w.pl, w.kw, w.dw, x->dims[3], 0, 0);
  for (uint32_t oy = 0; oy < y->dims[2]; oy++, to += y->dims[3]) {
    memset(q ? (void *)sums : (void *)to, 0, (size_t)y->dims[3] * (q ? 16 : 4));
    if (whole && q) j->s->loops->sum_s8((const int8_t *)from, (size_t)w.kh * w.kw, sums);
    else if (whole) j->s->loops->sum_f32((const float *)from, (size_t)w.kh * w.kw, (float *)to);
    else fold_row(op, from, oy, q ? fold_sum_s8 : fold_sum_f32, q ? (uint8_t *)sums : (uint8_t *)to, q ? 16 : 4);
    finish_row(op, oy, sums, inside, to);
  }
}

gs_status gs_maxpool_run(gs_session *s, gs_node *node, gs_error *error) {
  (void)error;
  job j = {s, node};
  const gs_tensor *y = node->op->out[0];
  gs_run_batches(s, y->dims[0] * gs_plane_groups(y), maxpool_task, &j);
  return GS_OK;
}

gs_status gs_avgpool_run(gs_session *s, gs_node *node, gs_error *error) {
  (void)error;
  job j = {s, node};
  const gs_tensor *y = node->op->out[0];
  gs_run_batches(s, y->dims[0] * gs_plane_groups(y), avgpool_task, &j);
  return GS_OK;
}
