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

#define ROWS 32u /* rows of one task: enough to pay for writing b out again */

/* S8: b of one task as rows of K int16 without its zero point, then one such row of a; F32: one row of a. */
gs_status gs_matmul_prepare(gs_session *s, gs_node *node, gs_error *error) {
  sizes z = sizes_of(node->op);
  node->macs = node->macs_executed = z.batches * z.m * z.k * z.n;
  bool q = node->op->out[0]->dtype == GS_S8;
  return gs_want_scratch(s, node->op, q ? ((uint64_t)z.n + 1) * z.k * 2 : (uint64_t)z.k * 4, error);
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

#define LANES 16u /* partial sums: independent, so that they run side by side, and in one order on every target */

static float dot_f32(const float *a, const float *b, uint32_t n) {
  float part[LANES] = {0}, sum = 0.0f;
  uint32_t k = 0;
  for (; k + LANES <= n; k += LANES)
    for (uint32_t l = 0; l < LANES; l++) part[l] += a[k + l] * b[k + l];
  for (; k < n; k++) sum += a[k] * b[k];
  for (uint32_t l = 0; l < LANES; l++) sum += part[l];
  return sum;
}

/* One row of y. b as [N][K]: dot products; as [K][N]: its rows are added up, each times a value of a. */
static void row_f32(const float *a, const float *b, bool b_rows, const sizes *z, float alpha, float *y) {
  if (b_rows) {
    for (uint32_t n = 0; n < z->n; n++) y[n] = dot_f32(a, b + (size_t)n * z->k, z->k) * alpha;
    return;
  }
  for (uint32_t n = 0; n < z->n; n++) y[n] = 0.0f;
  for (uint32_t k = 0; k < z->k; k++)
    for (uint32_t n = 0; n < z->n; n++) y[n] += a[k] * b[(size_t)k * z->n + n];
  for (uint32_t n = 0; n < z->n; n++) y[n] *= alpha;
}

/* Element (r, k) of a matrix stored as [rows][k] or, transposed, [k][rows], less its zero point. */
static void widen(const int8_t *from, size_t row_step, size_t k_step, uint32_t rows, uint32_t k, int32_t zp, int16_t *to) {
  for (uint32_t r = 0; r < rows; r++)
    for (uint32_t i = 0; i < k; i++) to[(size_t)r * k + i] = (int16_t)(from[r * row_step + i * k_step] - zp);
}

static int32_t dot_s16(const int16_t *a, const int16_t *b, uint32_t n) {
  int32_t sum = 0;
  for (uint32_t i = 0; i < n; i++) sum += a[i] * b[i];
  return sum;
}

static void rows_s8(const job *j, const int8_t *a, const int8_t *b, uint32_t row0, uint32_t row1, int16_t *scratch,
                    int8_t *y) {
  const gs_op *op = j->node->op;
  const sizes *z = &j->z;
  int16_t *row = scratch + (size_t)z->n * z->k;
  widen(b, op->p[1] ? z->k : 1, op->p[1] ? 1 : z->n, z->n, z->k, op->in[1]->zp, scratch);
  for (uint32_t m = row0; m < row1; m++) {
    widen(a + (op->p[0] ? m : (size_t)m * z->k), 0, op->p[0] ? z->m : 1, 1, z->k, op->in[0]->zp, row);
    for (uint32_t n = 0; n < z->n; n++) {
      float v = (float)dot_s16(row, scratch + (size_t)n * z->k, z->k) * op->f[GS_F_RA];
      y[(size_t)m * z->n + n] = (int8_t)gs_requantize(v, op->out[0]->zp, -128, 127);
    }
  }
}

static void rows_f32(const job *j, const float *a, const float *b, uint32_t row0, uint32_t row1, float *scratch, float *y) {
  const gs_op *op = j->node->op;
  const sizes *z = &j->z;
  for (uint32_t m = row0; m < row1; m++) {
    const float *row = a + (size_t)m * z->k;
    if (op->p[0]) { /* a column of the transposed a, written out */
      for (uint32_t k = 0; k < z->k; k++) scratch[k] = a[(size_t)k * z->m + m];
      row = scratch;
    }
    row_f32(row, b, op->p[1] != 0, z, op->f[GS_F_RA], y + (size_t)m * z->n);
  }
}

static void matmul_task(void *arg, uint32_t index, uint32_t thread) {
  const job *j = arg;
  const gs_op *op = j->node->op;
  const gs_tensor *y = op->out[0];
  uint32_t chunks = gs_ceil_div(j->z.m, ROWS), row0 = index % chunks * ROWS;
  uint32_t row1 = j->z.m - row0 < ROWS ? j->z.m : row0 + ROWS;
  uint64_t batch = index / chunks;
  size_t a = matrix_start(op->in[0], y, batch), b = matrix_start(op->in[1], y, batch);
  size_t out = (size_t)batch * j->z.m * j->z.n;
  void *scratch = gs_scratch(j->s, thread);
  if (y->dtype == GS_F32)
    rows_f32(j, (const float *)j->node->in[0] + a, (const float *)j->node->in[1] + b, row0, row1, scratch,
             (float *)j->node->out[0] + out);
  else
    rows_s8(j, (const int8_t *)j->node->in[0] + a, (const int8_t *)j->node->in[1] + b, row0, row1, scratch,
            (int8_t *)j->node->out[0] + out);
}

gs_status gs_matmul_run(gs_session *s, gs_node *node, gs_error *error) {
  (void)error;
  job j = {s, node, sizes_of(node->op)};
  gs_pool_run(s->pool, (uint32_t)(j.z.batches * gs_ceil_div(j.z.m, ROWS)), matmul_task, &j);
  return GS_OK;
}
