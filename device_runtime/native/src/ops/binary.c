/* Binary: element-wise arithmetic of two tensors with numpy broadcasting. Fast where both operands lie like the output,
 * where one of them has one value per channel, and along the contiguous inner dimensions of row-major tensors. */
#include <string.h>

#include "../mathf.h"
#include "common.h"
#include "ops.h"

#define RATIO_CAP 262144.0f /* 2^18: multipliers stay within 21 bits */
#define CHUNK 1024u /* words of a broadcast operand that are written out at a time */

gs_status gs_binary_check(const gs_op *op, gs_error *error) {
  GS_TRY(gs_check_operands(op, 2, 3, 1, error));
  const gs_tensor *y = op->out[0];
  if (y->dtype != GS_F32 && y->dtype != GS_S8) GS_REFUSE("element type %d is not supported", (int)y->dtype);
  GS_TRY(gs_check_param(op, 0, "function", 0, y->dtype == GS_S8 ? GS_BIN_MUL : GS_BIN_COUNT - 1, error));
  GS_TRY(gs_check_clamp(op, y->dtype, error));
  uint32_t rank = 0;
  for (uint32_t i = 0; i < 2; i++) {
    const gs_tensor *t = op->in[i];
    GS_TRY(gs_check_type(op, t, i ? "the second input" : "the first input", y->dtype, -1, error));
    if (t->rank > rank) rank = t->rank;
    if (t->rank > y->rank) GS_REFUSE("input %u has rank %u, the output %u", i, t->rank, y->rank);
  }
  if (rank != y->rank) GS_REFUSE("output has rank %u, must have %u", y->rank, rank);
  for (uint32_t d = 0; d < rank; d++) {
    uint32_t size = 1;
    for (uint32_t i = 0; i < 2; i++) {
      const gs_tensor *t = op->in[i];
      uint32_t shift = rank - t->rank, have = d < shift ? 1 : t->dims[d - shift];
      if (have != 1 && have != y->dims[d]) GS_REFUSE("input %u has %u in dimension %u, the output %u", i, have, d, y->dims[d]);
      if (have != 1) size = have;
    }
    if (size != y->dims[d]) GS_REFUSE("output has %u in dimension %u, must have %u", y->dims[d], d, size);
  }
  if (y->dtype != GS_S8) return GS_OK;
  GS_TRY(gs_check_multiplier(op, GS_F_RA, error));
  if (op->p[0] == GS_BIN_MUL) return GS_OK;
  GS_TRY(gs_check_multiplier(op, GS_F_RB, error));
  if (op->f[GS_F_RA] >= RATIO_CAP || op->f[GS_F_RB] >= RATIO_CAP) GS_REFUSE("scales of input and output are too far apart");
  return GS_OK;
}

/* The fixed-point terms of NUMERICS.md: both ratios times 2^shift, rounded, the larger one to 21 bits. */
static void fixed_point(const gs_op *op, gs_binary_s8_args *a) {
  float ra = op->f[GS_F_RA], rb = op->f[GS_F_RB], top = ra > rb ? ra : rb, power = 2.0f;
  a->shift = 1;
  while (a->shift < 30 && top * power < 1048576.0f) a->shift++, power *= 2.0f; /* powers of two: exact */
  a->ma = (int32_t)gs_rhe(ra * power);
  a->mb = (int32_t)gs_rhe(rb * power);
  if (op->p[0] == GS_BIN_SUB) a->mb = -a->mb;
  a->bias = (1 << (a->shift - 1)) - op->in[0]->zp * a->ma - op->in[1]->zp * a->mb;
}

/* Subtraction runs on the kernel of addition. */
static const gs_binary_s8_kernel *pick(const gs_session *s, const gs_op *op) {
  return gs_pick_binary_s8(s->options.isa_cap, op->p[0] == GS_BIN_MUL ? GS_BIN_MUL : GS_BIN_ADD);
}

gs_status gs_binary_prepare(gs_session *s, gs_node *node, gs_error *error) {
  const gs_op *op = node->op;
  if (op->out[0]->dtype != GS_S8) return GS_OK;
  const gs_binary_s8_kernel *k = pick(s, op);
  if (!k) return gs_fail_op(error, GS_E_UNSUPPORTED, op, "this build has no kernel for it");
  node->kernel = k->name;
  return gs_want_scratch(s, op, 2 * CHUNK * 4, error);
}

typedef struct {
  gs_session *s;
  const gs_node *node;
  const gs_binary_s8_kernel *k; /* S8 */
  gs_binary_s8_args s8;
} job;

/* n elements; sa, sb: 1, or 0 for an operand that stays. */
#define EACH(expression)                                                      \
  do {                                                                        \
    if (sa && sb)                                                             \
      for (size_t i = 0; i < n; i++) {                                        \
        float u = a[i], v = b[i];                                             \
        y[i] = gs_clampf(expression, lo, hi);                                 \
      }                                                                       \
    else                                                                      \
      for (size_t i = 0; i < n; i++) {                                        \
        float u = sa ? a[i] : a[0], v = sb ? b[i] : b[0];                     \
        y[i] = gs_clampf(expression, lo, hi);                                 \
      }                                                                       \
  } while (0);                                                                \
  break

static void run_f32(const gs_op *op, const float *a, int sa, const float *b, int sb, float *y, size_t n) {
  float lo = op->f[GS_F_LO], hi = op->f[GS_F_HI];
  switch (op->p[0]) {
    case GS_BIN_ADD: EACH(u + v);
    case GS_BIN_SUB: EACH(u - v);
    case GS_BIN_MUL: EACH(u * v);
    case GS_BIN_DIV: EACH(u / v);
    case GS_BIN_MAX: EACH(u > v ? u : v);
    case GS_BIN_MIN: EACH(u < v ? u : v);
    default: EACH(gs_powf(u, v));
  }
}

/* What the int8 kernel is told besides operands and length: the same for every span of a run. */
static gs_binary_s8_args arguments_s8(const gs_op *op) {
  gs_binary_s8_args a = {.ra = op->f[GS_F_RA], .za = op->in[0]->zp, .zb = op->in[1]->zp, .zo = op->out[0]->zp,
                         .lo = op->p[GS_P_QLO], .hi = op->p[GS_P_QHI]};
  if (op->p[0] != GS_BIN_MUL) fixed_point(op, &a);
  return a;
}

/* n bytes, both operands written out. */
static void run_s8(const job *j, const void *a, const void *b, void *y, size_t n) {
  gs_binary_s8_args args = j->s8;
  args.a = a;
  args.b = b;
  args.y = y;
  args.n = n;
  j->k->run(&args);
}

/* An operand over n elements: bytes where it lies, or its one word (S8: four lanes) written out. */
typedef struct {
  const uint8_t *at;
  gs_word word;
  bool spread;
} operand;

/* n words of a plane (S8: pixels of four channels). */
static void run_words(const job *j, operand a, operand b, void *y, size_t n, uint32_t thread) {
  if (j->node->op->out[0]->dtype == GS_F32) {
    float va, vb;
    memcpy(&va, &a.word, 4);
    memcpy(&vb, &b.word, 4);
    run_f32(j->node->op, a.spread ? &va : (const float *)a.at, !a.spread, b.spread ? &vb : (const float *)b.at, !b.spread,
            y, n);
    return;
  }
  gs_word *wa = gs_scratch(j->s, thread), *wb = wa + CHUNK;
  size_t filled = n < CHUNK ? n : CHUNK;
  for (size_t i = 0; a.spread && i < filled; i++) wa[i] = a.word;
  for (size_t i = 0; b.spread && i < filled; i++) wb[i] = b.word;
  size_t step = a.spread || b.spread ? CHUNK : n;
  for (size_t i = 0; i < n; i += step)
    run_s8(j, a.spread ? (const uint8_t *)wa : a.at + i * 4, b.spread ? (const uint8_t *)wb : b.at + i * 4,
           (uint8_t *)y + i * 4, (n - i < step ? n - i : step) * 4);
}

static void flat_span(void *arg, size_t first, size_t n, uint32_t thread) {
  (void)thread;
  const job *j = arg;
  const uint8_t *a = j->node->in[0], *b = j->node->in[1];
  uint8_t *y = j->node->out[0];
  if (j->k) run_s8(j, a + first, b + first, y + first, n);
  else run_f32(j->node->op, (const float *)a + first, 1, (const float *)b + first, 1, (float *)y + first, n);
}

/* ---- channel-blocked output, each operand channel-blocked of the same shape or with one value per channel ---- */

static bool per_channel(const gs_tensor *t, const gs_tensor *y) {
  if (t->rank == 0) return true;
  for (uint32_t i = 1; i <= t->rank; i++) { /* from the last dimension */
    uint32_t have = t->dims[t->rank - i];
    if (have != 1 && (i <= 2 || have != y->dims[4 - i])) return false;
  }
  return true;
}

static bool plane_operand(const gs_tensor *t, const gs_tensor *y) {
  return (t->layout == GS_LAYOUT_CB && gs_same_shape(t, y)) || per_channel(t, y);
}

static operand plane_of(const gs_tensor *t, const gs_tensor *y, const void *data, uint32_t n, uint32_t g) {
  operand o = {0};
  if (t->layout == GS_LAYOUT_CB && gs_same_shape(t, y)) {
    o.at = (const uint8_t *)data + ((size_t)n * gs_plane_groups(t) + g) * t->pstride * 4;
    return o;
  }
  o.spread = true;
  uint32_t b = gs_block(y->dtype);
  for (uint32_t l = 0; l < b && g * b + l < y->dims[1]; l++) {
    uint32_t coord[GS_MAX_RANK] = {0};
    if (t->rank >= 4 && t->dims[t->rank - 4] > 1) coord[t->rank - 4] = n;
    if (t->rank >= 3 && t->dims[t->rank - 3] > 1) coord[t->rank - 3] = g * b + l;
    size_t at = gs_index(t, coord);
    if (b == 1) o.word = ((const gs_word *)data)[at];
    else o.word |= (gs_word)((const uint8_t *)data)[at] << 8 * l;
  }
  return o;
}

static void plane_task(void *arg, uint32_t plane, uint32_t thread) {
  const job *j = arg;
  const gs_op *op = j->node->op;
  const gs_tensor *y = op->out[0];
  uint32_t groups = gs_plane_groups(y), n = plane / groups, g = plane % groups;
  operand a = plane_of(op->in[0], y, j->node->in[0], n, g), b = plane_of(op->in[1], y, j->node->in[1], n, g);
  run_words(j, a, b, (gs_word *)j->node->out[0] + (size_t)plane * y->pstride, (size_t)y->dims[2] * y->dims[3], thread);
}

/* ---- anything else: strides over the output's dimensions, the contiguous inner ones in one run ---- */

typedef struct {
  uint32_t inner_rank; /* dimensions that one run covers; 0: one element (a channel-blocked tensor is involved) */
  size_t inner;
  int sa, sb;
} inner_run;

/* Whether the last `n` dimensions of t are the output's (1), all ones (0), or neither (-1). */
static int inner_kind(const gs_tensor *t, const gs_tensor *y, uint32_t n) {
  bool full = true, one = true;
  for (uint32_t i = 1; i <= n; i++) {
    uint32_t have = i <= t->rank ? t->dims[t->rank - i] : 1;
    full &= have == y->dims[y->rank - i];
    one &= have == 1;
  }
  return full ? 1 : one ? 0 : -1;
}

static inner_run inner_of(const gs_op *op) {
  const gs_tensor *a = op->in[0], *b = op->in[1], *y = op->out[0];
  inner_run r = {0, 1, 0, 0};
  if (a->layout != GS_LAYOUT_ROW || b->layout != GS_LAYOUT_ROW || y->layout != GS_LAYOUT_ROW) return r;
  for (uint32_t n = 1; n <= y->rank; n++) {
    int sa = inner_kind(a, y, n), sb = inner_kind(b, y, n);
    if (sa < 0 || sb < 0) break;
    r.inner_rank = n;
    r.inner *= y->dims[y->rank - n];
    r.sa = sa;
    r.sb = sb;
  }
  return r;
}

static size_t broadcast_index(const gs_tensor *t, const gs_tensor *y, const uint32_t *coord) {
  uint32_t c[GS_MAX_RANK] = {0}, shift = y->rank - t->rank;
  for (uint32_t i = 0; i < t->rank; i++) c[i] = t->dims[i] == 1 ? 0 : coord[i + shift];
  return gs_index(t, c);
}

static void run_inner(const job *j, const inner_run *r, size_t ia, size_t ib, size_t iy) {
  const uint8_t *a = j->node->in[0], *b = j->node->in[1];
  uint8_t *y = j->node->out[0];
  if (!j->k) {
    run_f32(j->node->op, (const float *)a + ia, r->sa, (const float *)b + ib, r->sb, (float *)y + iy, r->inner);
    return;
  }
  uint8_t *wa = gs_scratch(j->s, 0), *wb = wa + CHUNK * 4;
  size_t step = r->sa && r->sb ? r->inner : CHUNK * 4, filled = r->inner < step ? r->inner : step;
  if (!r->sa) memset(wa, a[ia], filled);
  if (!r->sb) memset(wb, b[ib], filled);
  for (size_t i = 0; i < r->inner; i += step)
    run_s8(j, r->sa ? a + ia + i : wa, r->sb ? b + ib + i : wb, y + iy + i, r->inner - i < step ? r->inner - i : step);
}

static void run_broadcast(const job *j) {
  const gs_op *op = j->node->op;
  const gs_tensor *y = op->out[0];
  inner_run r = inner_of(op);
  uint32_t coord[GS_MAX_RANK] = {0}, outer = y->rank - r.inner_rank;
  for (;;) {
    run_inner(j, &r, broadcast_index(op->in[0], y, coord), broadcast_index(op->in[1], y, coord), gs_index(y, coord));
    uint32_t d = outer;
    while (d > 0 && ++coord[d - 1] == y->dims[d - 1]) coord[--d] = 0;
    if (d == 0) return;
  }
}

static bool lies_like(const gs_tensor *t, const gs_tensor *y) {
  return t->layout == y->layout && t->pstride == y->pstride && gs_same_shape(t, y);
}

gs_status gs_binary_run(gs_session *s, gs_node *node, gs_error *error) {
  (void)error;
  const gs_op *op = node->op;
  const gs_tensor *a = op->in[0], *b = op->in[1], *y = op->out[0];
  job j = {.s = s, .node = node};
  if (y->dtype == GS_S8) {
    j.k = pick(s, op);
    j.s8 = arguments_s8(op);
  }
  if (lies_like(a, y) && lies_like(b, y)) gs_run_spans(s, gs_stored_elements(y), flat_span, &j);
  else if (y->layout == GS_LAYOUT_CB && plane_operand(a, y) && plane_operand(b, y))
    gs_pool_run(s->pool, y->dims[0] * gs_plane_groups(y), plane_task, &j);
  else run_broadcast(&j);
  return GS_OK;
}
