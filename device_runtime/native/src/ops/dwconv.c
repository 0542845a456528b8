/* Depthwise Conv: rows of one plane of four int8 channels or one f32 channel at a time, padded in scratch where the kernel
 * does not pad by itself. */
#include <string.h>

#include "dwconv.h"
#include "ops.h"

typedef struct {
  const gs_dw_kernel *k;
  uint8_t *weights;  /* per output group [kh*kw] words of 4 x int16, or floats */
  uint8_t *packed;   /* per output group what the kernel packs, if it does */
  uint8_t *bias;     /* per output group int32[4] or float */
  float *scale;      /* S8: per output channel, padded to 4 */
  uint32_t groups;   /* output channel groups */
  uint32_t cols;     /* of padded rows */
  bool direct;       /* the kernel reads x where it lies */
} dw_state;

gs_status gs_dwconv_check(const gs_op *op, gs_error *error) {
  GS_TRY(gs_check_operands(op, 4, 3, 1, error));
  const gs_tensor *x = op->in[0], *y = op->out[0], *values = op->in[1];
  GS_TRY(gs_check_window(op, x, y, error));
  GS_TRY(gs_check_clamp(op, x->dtype, error));
  GS_TRY(gs_check_param(op, GS_P_GROUPS, "multiplier", 1, GS_CAP_DIM, error));
  if ((uint64_t)x->dims[1] * (uint32_t)op->p[GS_P_GROUPS] != y->dims[1])
    GS_REFUSE("%u channels times %d are not %u", x->dims[1], (int)op->p[GS_P_GROUPS], y->dims[1]);
  GS_TRY(gs_check_bias_scale(op, x->dtype, op->in[2], op->in[3], y->dims[1], error));
  gs_window w = gs_window_of(op);
  uint64_t taps = (uint64_t)w.kh * w.kw;
  if (taps > GS_CAP_DIM) GS_REFUSE("window of %ux%u is too large", w.kh, w.kw);
  gs_dtype dtype = x->dtype == GS_S8 && values->dtype == GS_S16 ? GS_S16 : x->dtype;
  GS_TRY(gs_check_const(op, values, "the weights", dtype, y->dims[1] * taps, error));
  if (x->dtype == GS_F32) return GS_OK;
  for (uint32_t c = 0; c < y->dims[1]; c++) {
    int64_t sum = op->in[2] ? ((const int32_t *)op->in[2]->data)[c] : 0;
    if (sum < 0) sum = -sum;
    for (uint64_t i = c * taps; i < (c + 1) * taps; i++) {
      int v = dtype == GS_S16 ? ((const int16_t *)values->data)[i] : ((const int8_t *)values->data)[i];
      int most = dtype == GS_S16 ? 255 : 127;
      if (v < -most || v > most) GS_REFUSE("weight %llu is %d, must be within -%d..%d", (unsigned long long)i, v, most, most);
      sum += 128 * (v < 0 ? -v : v);
    }
    if (sum > 2147483647ll - (1ll << 23)) GS_REFUSE("output channel %u may overflow 32 bits", c);
  }
  return GS_OK;
}

static void arrange(const gs_op *op, dw_state *d, uint32_t taps) {
  const gs_tensor *y = op->out[0], *values = op->in[1], *bias = op->in[2], *scale = op->in[3];
  for (uint32_t c = 0; c < y->dims[1]; c++) {
    if (y->dtype == GS_F32) {
      memcpy(d->weights + (size_t)c * taps * 4, (const float *)values->data + (size_t)c * taps, (size_t)taps * 4);
      if (bias) memcpy(d->bias + (size_t)c * 4, (const float *)bias->data + c, 4);
      continue;
    }
    int16_t *w = (int16_t *)d->weights + (size_t)(c / 4) * taps * 4 + c % 4;
    for (uint32_t t = 0; t < taps; t++) {
      size_t i = (size_t)c * taps + t;
      w[t * 4] = values->dtype == GS_S16 ? ((const int16_t *)values->data)[i] : ((const int8_t *)values->data)[i];
    }
    if (bias) ((int32_t *)d->bias)[c] = ((const int32_t *)bias->data)[c];
    d->scale[c] = ((const float *)scale->data)[c];
  }
}

/* Some int8 weight lies outside -127..127. */
static bool is_wide(const gs_tensor *values) {
  if (values->dtype != GS_S16) return false;
  const int16_t *v = values->data;
  for (uint64_t i = 0; i < gs_elements(values); i++)
    if (v[i] < -127 || v[i] > 127) return true;
  return false;
}

/* What of a kernel's arguments is the same for all rows of a channel group. */
static gs_dw_args group_args(const gs_node *node, const dw_state *d, uint32_t group) {
  const gs_op *op = node->op;
  const gs_tensor *x = op->in[0], *y = op->out[0];
  gs_window w = gs_window_of(op);
  bool q = x->dtype == GS_S8;
  gs_dw_args a = {.kh = w.kh, .kw = w.kw, .sh = w.sh, .sw = w.sw, .dh = w.dh, .dw = w.dw, .ow = y->dims[3],
                  .w = d->weights + (size_t)group * w.kh * w.kw * (q ? 8 : 4), .bias = d->bias + (size_t)group * (q ? 16 : 4),
                  .packed = d->k->pack ? d->packed + (size_t)group * d->k->packed_bytes : NULL,
                  .lo = op->f[GS_F_LO], .hi = op->f[GS_F_HI], .pad = gs_pad_word(x)};
  if (q) {
    a.q.scale = d->scale + (size_t)group * 4;
    a.q.zp = y->zp;
    a.q.lo = op->p[GS_P_QLO];
    a.q.hi = op->p[GS_P_QHI];
  }
  return a;
}

gs_status gs_dwconv_prepare(gs_session *s, gs_node *node, gs_error *error) {
  const gs_op *op = node->op;
  const gs_tensor *x = op->in[0], *y = op->out[0], *values = op->in[1];
  gs_window w = gs_window_of(op);
  bool q = x->dtype == GS_S8;
  uint32_t taps = w.kh * w.kw, groups = gs_plane_groups(y);
  bool wide = is_wide(values) || !gs_is_tame(op->in[2], op->in[3], taps);
  const gs_dw_kernel *k = gs_pick_dw(s->options.isa_cap, x->dtype, w.kh, w.kw, w.sh, w.sw, w.dh, w.dw, wide);
  if (!k) return gs_fail_op(error, GS_E_UNSUPPORTED, op, "this build has no depthwise kernel");
  uint64_t w_bytes = ((uint64_t)groups * taps * (q ? 8 : 4) + 63) / 64 * 64 + GS_WSLACK;
  uint64_t b_bytes = ((uint64_t)groups * (q ? 16 : 4) + 63) / 64 * 64;
  uint64_t total = sizeof(dw_state) + 64 + w_bytes + b_bytes + (q ? b_bytes : 0) + (uint64_t)groups * k->packed_bytes;
  dw_state *d = total > GS_SCRATCH_MAX ? NULL : gs_alloc((size_t)total);
  if (!d) return gs_fail_op(error, GS_E_MEMORY, op, "no memory for its weights");
  node->state = d;
  node->state_bytes = (size_t)total;
  d->k = k;
  d->weights = (uint8_t *)d + (sizeof *d + 63) / 64 * 64;
  d->bias = d->weights + w_bytes;
  d->scale = (float *)(d->bias + b_bytes);
  d->packed = (uint8_t *)d->scale + (q ? b_bytes : 0);
  d->groups = groups;
  arrange(op, d, taps);
  for (uint32_t g = 0; k->pack && g < groups; g++) {
    gs_dw_args a = group_args(node, d, g);
    k->pack(&a, d->packed + (size_t)g * k->packed_bytes);
  }
  d->cols = (y->dims[3] - 1) * w.sw + (w.kw - 1) * w.dw + 1;
  d->direct = (d->k->pads || !(w.pt | w.pl | w.pb | w.pr)) && (!q || op->p[GS_P_GROUPS] == 1);
  GS_TRY(gs_want_scratch(s, op, gs_dw_scratch(node, y->dims[2]), error));
  node->kernel = d->k->name;
  node->weight_count = gs_elements(values);
  for (uint64_t i = 0; i < node->weight_count; i++)
    node->weight_nonzero += values->dtype == GS_F32   ? ((const float *)values->data)[i] != 0.0f
                            : values->dtype == GS_S16 ? ((const int16_t *)values->data)[i] != 0
                                                      : ((const int8_t *)values->data)[i] != 0;
  node->macs = node->macs_executed = gs_elements(y) * taps;
  return GS_OK;
}

static void fill(gs_word *to, size_t n, gs_word v) {
  for (size_t i = 0; i < n; i++) to[i] = v;
}

/* Rows of a plane that a range of output rows reads: the first, which may lie above the plane, and how many. */
typedef struct {
  int64_t first;
  uint32_t n;
} rows_read;

static rows_read rows_of(const gs_window *w, uint32_t oy0, uint32_t oy1) {
  rows_read r = {(int64_t)oy0 * w->sh - w->pt, (oy1 - oy0 - 1) * w->sh + (w->kh - 1) * w->dh + 1};
  return r;
}

/* Rows are short, and calls of memcpy and loops over single words cost more than they move: vectors that overlap instead. Reads
 * and writes stay within n words when n is 4 or more. */
typedef gs_word __attribute__((vector_size(16), aligned(4))) four_words;

static void copy_row(gs_word *to, const gs_word *from, uint32_t n) {
  if (n < 4) {
    for (uint32_t i = 0; i < n; i++) to[i] = from[i];
    return;
  }
  for (uint32_t i = 0; i + 4 < n; i += 4) *(four_words *)(to + i) = *(const four_words *)(from + i);
  *(four_words *)(to + n - 4) = *(const four_words *)(from + n - 4);
}

/* Rows of one plane, padded. */
static void pad_plane(const dw_state *d, const gs_tensor *x, const gs_window *w, rows_read rows, const gs_word *from, gs_word *to) {
  gs_word pad = gs_pad_word(x);
  uint32_t left = w->pl < d->cols ? w->pl : d->cols;
  uint32_t mid = x->dims[3] < d->cols - left ? x->dims[3] : d->cols - left;
  for (uint32_t r = 0; r < rows.n; r++, to += d->cols) {
    int64_t iy = rows.first + r;
    if (iy < 0 || iy >= x->dims[2]) {
      fill(to, d->cols, pad);
      continue;
    }
    for (uint32_t i = 0; i < left; i++) to[i] = pad;
    copy_row(to + left, from + (size_t)iy * x->dims[3], mid);
    for (uint32_t i = left + mid; i < d->cols; i++) to[i] = pad;
  }
}

/* Padded rows of four int8 channels gathered for outputs [o, o + 4) of a multiplier above one. */
static void pad_lanes(const dw_state *d, const gs_tensor *x, const gs_window *w, rows_read rows, const uint8_t *image, uint32_t o,
                      uint32_t multiplier, uint8_t *to) {
  for (uint32_t lane = 0; lane < 4; lane++) {
    uint32_t c = (o + lane) / multiplier;
    const uint8_t *from = image + (size_t)(c / 4) * x->pstride * 4 + c % 4;
    for (uint32_t r = 0; r < rows.n; r++)
      for (uint32_t i = 0; i < d->cols; i++) {
        int64_t iy = rows.first + r, ix = (int64_t)i - w->pl;
        bool inside = c < x->dims[1] && iy >= 0 && iy < x->dims[2] && ix >= 0 && ix < x->dims[3];
        to[((size_t)r * d->cols + i) * 4 + lane] =
            inside ? from[((size_t)iy * x->dims[3] + (size_t)ix) * 4] : (uint8_t)(int8_t)x->zp;
      }
  }
}

uint64_t gs_dw_scratch(const gs_node *node, uint32_t rows) {
  const dw_state *d = node->state;
  if (d->direct) return 0;
  gs_window w = gs_window_of(node->op);
  return ((uint64_t)rows_of(&w, 0, rows).n * d->cols * 4 + 64 + 63) / 64 * 64;
}

bool gs_dw_flips(const gs_node *node) {
  const dw_state *d = node->state;
  return d->k->pads && d->direct;
}

void gs_dw_rows(const gs_node *node, uint32_t image, uint32_t group, uint32_t oy0, uint32_t oy1, void *out, uint32_t out_px,
                gs_word flip, void *scratch) {
  const dw_state *d = node->state;
  const gs_op *op = node->op;
  const gs_tensor *x = op->in[0];
  gs_window w = gs_window_of(op);
  uint32_t multiplier = (uint32_t)op->p[GS_P_GROUPS];
  bool q = x->dtype == GS_S8;
  const gs_word *xi = (const gs_word *)node->in[0] + (size_t)image * gs_plane_groups(x) * x->pstride;
  const gs_word *plane = xi + (size_t)(q ? group : group / multiplier) * x->pstride;
  rows_read rows = rows_of(&w, oy0, oy1);
  gs_dw_args a = group_args(node, d, group);
  a.x = scratch;
  a.x_row = (size_t)d->cols * 4;
  a.y = out;
  a.y_px = out_px;
  a.oh = oy1 - oy0;
  a.ih = rows.n;
  a.iw = d->cols;
  a.flip = flip;
  if (d->direct && d->k->pads) {
    a.x = plane;
    a.x_row = (size_t)x->dims[3] * 4;
    a.ih = x->dims[2];
    a.iw = x->dims[3];
    a.top = (int32_t)-rows.first;
    a.left = (int32_t)w.pl;
  } else if (d->direct) {
    a.x = plane + (size_t)rows.first * x->dims[3];
    a.x_row = (size_t)x->dims[3] * 4;
  } else if (q && multiplier > 1) {
    pad_lanes(d, x, &w, rows, (const uint8_t *)xi, group * 4, multiplier, scratch);
  } else {
    pad_plane(d, x, &w, rows, plane, scratch);
  }
  d->k->run(&a);
}

typedef struct {
  const gs_session *s;
  const gs_node *node;
} job;

static void dw_task(void *arg, uint32_t index, uint32_t thread) {
  const job *j = arg;
  const dw_state *d = j->node->state;
  const gs_tensor *y = j->node->op->out[0];
  gs_dw_rows(j->node, index / d->groups, index % d->groups, 0, y->dims[2], (gs_word *)j->node->out[0] + (size_t)index * y->pstride,
             gs_round_px(y->dims[2] * y->dims[3]), 0, gs_scratch(j->s, thread));
}

gs_status gs_dwconv_run(gs_session *s, gs_node *node, gs_error *error) {
  (void)error;
  const dw_state *d = node->state;
  job j = {s, node};
  gs_run_batches(s, node->op->out[0]->dims[0] * d->groups, dw_task, &j);
  return GS_OK;
}

void gs_dwconv_release(gs_node *node) {
  gs_free(node->state);
  node->state = NULL;
}
