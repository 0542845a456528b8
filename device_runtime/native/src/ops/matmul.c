/* MatMul of two activations (or constants), with leading dimensions broadcast. */
#include <string.h>

#include "common.h"
#include "ops.h"

typedef struct {
  uint32_t m, k, n;
  uint64_t batches;
} sizes;

static sizes sizes_of(const gs_op *op) {
  const gs_tensor *a = op->in[0], *y = op->out[0];
  sizes z = {y->dims[y->rank - 2], a->dims[a->rank - (op->p[0] ? 2 : 1)], y->dims[y->rank - 1], 1};
  for (uint32_t i = 0; i + 2 < y->rank; i++) z.batches *= y->dims[i];
  return z;
}

gs_status gs_matmul_check(const gs_op *op, gs_error *error) {
  GS_TRY(gs_check_operands(op, 2, 3, 1, error));
  const gs_tensor *a = op->in[0], *b = op->in[1], *y = op->out[0];
  if (y->dtype != GS_F32 && y->dtype != GS_S8) GS_REFUSE("element type %d is not supported", (int)y->dtype);
  GS_TRY(gs_check_type(op, a, "the first input", y->dtype, GS_LAYOUT_ROW, error));
  GS_TRY(gs_check_type(op, b, "the second input", y->dtype, GS_LAYOUT_ROW, error));
  GS_TRY(gs_check_type(op, y, "the output", y->dtype, GS_LAYOUT_ROW, error));
  GS_TRY(gs_check_param(op, 0, "transposition of the first input", 0, 1, error));
  GS_TRY(gs_check_param(op, 1, "transposition of the second input", 0, 1, error));
  if (a->rank < 2 || b->rank < 2) GS_REFUSE("inputs have ranks %u and %u, must have 2 or more", a->rank, b->rank);
  uint32_t rank = a->rank > b->rank ? a->rank : b->rank;
  if (y->rank != rank) GS_REFUSE("output has rank %u, must have %u", y->rank, rank);
  for (uint32_t d = 0; d + 2 < rank; d++) {
    uint32_t sa = d < rank - a->rank ? 1 : a->dims[d - (rank - a->rank)];
    uint32_t sb = d < rank - b->rank ? 1 : b->dims[d - (rank - b->rank)];
    if (sa != sb && sa != 1 && sb != 1) GS_REFUSE("%u and %u in dimension %u do not broadcast", sa, sb, d);
    if (y->dims[d] != (sa == 1 ? sb : sa)) GS_REFUSE("output has %u in dimension %u", y->dims[d], d);
  }
  uint32_t am = a->dims[a->rank - (op->p[0] ? 1 : 2)], ak = a->dims[a->rank - (op->p[0] ? 2 : 1)];
  uint32_t bk = b->dims[b->rank - (op->p[1] ? 1 : 2)], bn = b->dims[b->rank - (op->p[1] ? 2 : 1)];
  if (ak != bk) GS_REFUSE("%u columns times %u rows", ak, bk);
  if (y->dims[rank - 2] != am || y->dims[rank - 1] != bn)
    GS_REFUSE("output is %ux%u, must be %ux%u", y->dims[rank - 2], y->dims[rank - 1], am, bn);
  if (y->dtype == GS_F32) {
    if (op->f[GS_F_RA] - op->f[GS_F_RA] != 0.0f) GS_REFUSE("its factor is not finite");
    return GS_OK;
  }
  if (ak > (2147483647u - (1u << 23)) / 65025u) GS_REFUSE("%u products in a sum may overflow 32 bits", ak);
  return gs_check_multiplier(op, GS_F_RA, error);
}

gs_status gs_matmul_prepare(gs_session *s, gs_node *node, gs_error *error) {
  sizes z = sizes_of(node->op);
  node->macs = node->macs_executed = z.batches * z.m * z.k * z.n;
  size_t item = gs_dtype_size(node->op->out[0]->dtype);
  return gs_want_scratch(s, node->op, ((uint64_t)z.k * item + 63) / 64 * 64 + (uint64_t)z.n * 4, error);
}

/* Start of matrix `batch` of t, whose leading dimensions broadcast to y's. */
static size_t matrix_start(const gs_tensor *t, const gs_tensor *y, uint64_t batch) {
  uint32_t shift = y->rank - t->rank;
  size_t stride = (size_t)t->dims[t->rank - 1] * t->dims[t->rank - 2], at = 0;
  for (uint32_t d = y->rank - 2; d-- > 0;) {
    uint32_t c = (uint32_t)(batch % y->dims[d]);
    batch /= y->dims[d];
    if (d < shift) break;
    if (t->dims[d - shift] > 1) at += c * stride;
    stride *= t->dims[d - shift];
  }
  return at;
}

typedef struct {
  const gs_session *s;
  const gs_node *node;
  sizes z;
} job;

/* One row of y. b as [N][K]: dot products; as [K][N]: its rows are added up, each times a value of a. */
static void row_f32(const float *a, const float *b, bool b_rows, const sizes *z, float alpha, float *y) {
  if (b_rows) {
    for (uint32_t n = 0; n < z->n; n++) {
      float sum = 0.0f;
      for (uint32_t k = 0; k < z->k; k++) sum += a[k] * b[(size_t)n * z->k + k];
      y[n] = sum * alpha;
    }
    return;
  }
  for (uint32_t n = 0; n < z->n; n++) y[n] = 0.0f;
  for (uint32_t k = 0; k < z->k; k++)
    for (uint32_t n = 0; n < z->n; n++) y[n] += a[k] * b[(size_t)k * z->n + n];
  for (uint32_t n = 0; n < z->n; n++) y[n] *= alpha;
}

static void row_s8(const gs_op *op, const int8_t *a, const int8_t *b, const sizes *z, int32_t *acc, int8_t *y) {
  int32_t za = op->in[0]->zp, zb = op->in[1]->zp;
  if (op->p[1]) {
    for (uint32_t n = 0; n < z->n; n++) {
      acc[n] = 0;
      for (uint32_t k = 0; k < z->k; k++) acc[n] += (a[k] - za) * (b[(size_t)n * z->k + k] - zb);
    }
  } else {
    memset(acc, 0, (size_t)z->n * 4);
    for (uint32_t k = 0; k < z->k; k++)
      for (uint32_t n = 0; n < z->n; n++) acc[n] += (a[k] - za) * (b[(size_t)k * z->n + n] - zb);
  }
  for (uint32_t n = 0; n < z->n; n++)
    y[n] = (int8_t)gs_requantize((float)acc[n] * op->f[GS_F_RA], op->out[0]->zp, -128, 127);
}

static void matmul_task(void *arg, uint32_t index, uint32_t thread) {
  const job *j = arg;
  const gs_op *op = j->node->op;
  const sizes *z = &j->z;
  const gs_tensor *a = op->in[0], *y = op->out[0];
  uint64_t batch = index / z->m;
  uint32_t row = index % z->m;
  size_t item = gs_dtype_size(y->dtype);
  const uint8_t *am = (const uint8_t *)j->node->in[0] + matrix_start(a, y, batch) * item;
  const uint8_t *bm = (const uint8_t *)j->node->in[1] + matrix_start(op->in[1], y, batch) * item;
  uint8_t *out = (uint8_t *)j->node->out[0] + (size_t)index * z->n * item;
  uint8_t *scratch = gs_scratch(j->s, thread);
  const uint8_t *ar = am + (size_t)row * z->k * item;
  if (op->p[0]) { /* a column of the transposed a, written out */
    for (uint32_t k = 0; k < z->k; k++) memcpy(scratch + k * item, am + ((size_t)k * z->m + row) * item, item);
    ar = scratch;
  }
  if (y->dtype == GS_F32) {
    row_f32((const float *)ar, (const float *)bm, op->p[1] != 0, z, op->f[GS_F_RA], (float *)out);
  } else {
    int32_t *acc = (int32_t *)(scratch + ((size_t)z->k + 63) / 64 * 64);
    row_s8(op, (const int8_t *)ar, (const int8_t *)bm, z, acc, (int8_t *)out);
  }
}

gs_status gs_matmul_run(gs_session *s, gs_node *node, gs_error *error) {
  (void)error;
  job j = {s, node, sizes_of(node->op)};
  gs_pool_run(s->pool, (uint32_t)(j.z.batches * j.z.m), matmul_task, &j);
  return GS_OK;
}
