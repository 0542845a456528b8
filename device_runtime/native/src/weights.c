/* Weight operands of CONV and GEMM: check at load, decode to the canonical matrix of a kernel form at prepare. */
#include <string.h>

#include "core.h"
#include "ops/common.h"

#define ACC_LIMIT (2147483647ll - (1ll << 23)) /* NUMERICS.md, "What int32 holds" */

/* The stored matrix as the operator's parameters describe it. */
typedef struct {
  gs_dtype dtype;
  uint32_t rows, cin, cp, taps, br, bc, block_rows, block_cols, blocks, enc;
  const uint8_t *index;
  uint64_t index_size;
  const void *values;
} stored;

/* Reads block columns in order; every byte read is checked, so it serves check and decode alike. */
typedef struct {
  const stored *s;
  uint64_t pos;      /* next index byte (DELTA8) or first byte of the row's bitmap */
  uint32_t row, left, col;
  uint64_t word;     /* BITMAP: bits of the current eight bytes that are still to come, ... */
  uint32_t word_bit; /* ... the column of its lowest bit, ... */
  uint32_t next;     /* ... and the row's first byte not read yet */
} reader;

static stored stored_of(const gs_op *op, uint32_t rows, uint32_t kh, uint32_t kw, uint32_t cin) {
  stored s = {0};
  s.dtype = op->in[0]->dtype;
  s.rows = rows;
  s.cin = cin;
  s.cp = (cin + 3) / 4 * 4;
  s.taps = kh * kw;
  s.br = (uint32_t)op->p[GS_P_WBR];
  s.bc = (uint32_t)op->p[GS_P_WBC];
  s.blocks = (uint32_t)op->p[GS_P_WBLOCKS];
  s.enc = (uint32_t)op->p[GS_P_WENC];
  if (s.br) {
    s.block_rows = gs_ceil_div(rows, s.br);
    s.block_cols = s.taps * s.cp / s.bc;
  }
  s.values = op->in[1] ? op->in[1]->data : NULL;
  if (op->in[2]) {
    s.index = op->in[2]->data;
    s.index_size = gs_elements(op->in[2]);
  }
  return s;
}

static uint32_t bitmap_bytes(const stored *s) { return (s->block_cols + 7) / 8; }

/* Starts a block row; rows come in order. */
static void reader_row(reader *r, uint32_t row) {
  const uint8_t *count = r->s->index + 2ull * row;
  if (row == 0) r->pos = 2ull * r->s->block_rows;
  else if (r->s->enc == GS_ENC_BITMAP) r->pos += bitmap_bytes(r->s);
  r->row = row;
  r->left = (uint32_t)count[0] | (uint32_t)count[1] << 8;
  r->col = 0;
  r->word = 0;
  r->next = 0;
}

/* 1: *col is the next block column. 0: the row is done. -1: the index is malformed. */
static int reader_next(reader *r, uint32_t *col) {
  const stored *s = r->s;
  if (s->enc == GS_ENC_BITMAP) {
    uint32_t bytes = bitmap_bytes(s);
    while (r->word == 0) {
      if (r->next == bytes) return r->left ? -1 : 0;
      const uint8_t *map = s->index + r->pos + r->next;
      uint32_t n = bytes - r->next < 8 ? bytes - r->next : 8;
      for (uint32_t i = 0; i < n; i++) r->word |= (uint64_t)map[i] << 8 * i;
      r->word_bit = r->next * 8;
      r->next += n;
    }
    uint32_t c = r->word_bit + (uint32_t)__builtin_ctzll(r->word);
    r->word &= r->word - 1;
    if (!r->left || c >= s->block_cols) return -1;
    *col = c;
    r->left--;
    return 1;
  }
  if (!r->left) return 0;
  uint64_t c = r->col;
  uint8_t step;
  do {
    if (r->pos >= s->index_size) return -1;
    step = s->index[r->pos++];
    c += step;
  } while (step == 255);
  if (c >= s->block_cols) return -1;
  *col = r->col = (uint32_t)c;
  r->left--;
  return 1;
}

static bool finite_f32(float v) { return v - v == 0.0f; }

static gs_status check_value(const gs_op *op, const stored *s, uint64_t i, bool must_be_zero, int64_t *sum,
                             gs_error *error) {
  if (s->dtype == GS_F32) {
    float v = ((const float *)s->values)[i];
    if (!finite_f32(v)) GS_REFUSE("weight %llu is not finite", (unsigned long long)i);
    if (must_be_zero && v != 0.0f) GS_REFUSE("weight %llu pads a block and must be 0", (unsigned long long)i);
    return GS_OK;
  }
  int v = ((const int8_t *)s->values)[i];
  if (v == -128) GS_REFUSE("weight %llu is -128, must be within -127..127", (unsigned long long)i);
  if (must_be_zero && v) GS_REFUSE("weight %llu pads a block and must be 0", (unsigned long long)i);
  *sum += v < 0 ? -v : v;
  return GS_OK;
}

static gs_status check_row_sum(const gs_op *op, const gs_tensor *bias, uint32_t row, int64_t sum, gs_error *error) {
  int64_t b = bias ? ((const int32_t *)bias->data)[row] : 0;
  if ((b < 0 ? -b : b) + 128 * sum > ACC_LIMIT) GS_REFUSE("output channel %u may overflow 32 bits", row);
  return GS_OK;
}

/* Sum of |w| of one row, or -1 when a weight is -128: without a branch a value, so that compilers vectorise it. */
static int64_t row_sum_s8(const int8_t *w, uint64_t n) {
  int64_t sum = 0;
  while (n != 0) {
    uint32_t part = n < 65536 ? (uint32_t)n : 65536, magnitudes = 0, lowest = 0;
    for (uint32_t i = 0; i < part; i++) {
      magnitudes += (uint32_t)(w[i] < 0 ? -w[i] : w[i]);
      lowest |= w[i] == -128;
    }
    if (lowest) return -1;
    sum += magnitudes;
    w += part;
    n -= part;
  }
  return sum;
}

static gs_status check_dense(const gs_op *op, const stored *s, gs_error *error) {
  uint64_t k = (uint64_t)s->taps * s->cin;
  if (op->in[2]) GS_REFUSE("dense weights have an index");
  GS_TRY(gs_check_const(op, op->in[1], "the weights", s->dtype, s->rows * k, error));
  if (s->dtype == GS_S8 && 16256 * (int64_t)k > ACC_LIMIT) GS_REFUSE("may overflow 32 bits: too many products in a sum");
  for (uint32_t r = 0; r < s->rows; r++) {
    int64_t sum = s->dtype == GS_S8 ? row_sum_s8((const int8_t *)s->values + r * k, k) : -1;
    if (sum < 0) { /* f32, or a value to name */
      sum = 0;
      for (uint64_t i = r * k; i < (r + 1) * k; i++) GS_TRY(check_value(op, s, i, false, &sum, error));
    }
    if (s->dtype == GS_S8) GS_TRY(check_row_sum(op, op->in[3], r, sum, error));
  }
  return GS_OK;
}

static gs_status check_blocks(const gs_op *op, const stored *s, gs_error *error) {
  reader r = {.s = s};
  uint64_t at = 0;
  for (uint32_t i = 0; i < s->block_rows; i++) {
    int64_t sums[4] = {0};
    uint32_t col = 0, before = UINT32_MAX;
    int got;
    reader_row(&r, i);
    /* Where no stored value can be padding, a row of single-row blocks is one run of values. */
    bool run = s->dtype == GS_S8 && s->br == 1 && s->cp == s->cin;
    if (run) {
      uint64_t n = (uint64_t)r.left * s->bc;
      if (at / s->bc + r.left > s->blocks) GS_REFUSE("index holds more blocks than the %u stored", s->blocks);
      sums[0] = row_sum_s8((const int8_t *)s->values + at, n);
      if (sums[0] < 0) GS_REFUSE("a weight of row %u is -128, must be within -127..127", i);
      at += n;
    }
    while ((got = reader_next(&r, &col)) == 1) {
      if (col == before && op->p[GS_P_WLABEL] == GS_PATTERN_DENSE) GS_REFUSE("weights that run dense repeat a column");
      before = col;
      if (run) continue;
      if (at / (s->br * s->bc) >= s->blocks) GS_REFUSE("index holds more blocks than the %u stored", s->blocks);
      for (uint32_t y = 0; y < s->br; y++)
        for (uint32_t x = 0; x < s->bc; x++, at++) {
          bool pad = i * s->br + y >= s->rows || (s->cp != s->cin && (col * s->bc + x) % s->cp >= s->cin);
          GS_TRY(check_value(op, s, at, pad, &sums[y], error));
        }
    }
    if (got < 0) GS_REFUSE("index of block row %u is malformed", i);
    for (uint32_t y = 0; s->dtype == GS_S8 && y < s->br && i * s->br + y < s->rows; y++)
      GS_TRY(check_row_sum(op, op->in[3], i * s->br + y, sums[y], error));
  }
  if (at != (uint64_t)s->blocks * s->br * s->bc) GS_REFUSE("index holds fewer blocks than the %u stored", s->blocks);
  if (s->enc == GS_ENC_DELTA8 && r.pos != s->index_size) GS_REFUSE("index has bytes left over");
  return GS_OK;
}

gs_status gs_weights_check(const gs_op *op, uint32_t rows, uint32_t kh, uint32_t kw, uint32_t cin, gs_error *error) {
  int32_t br = op->p[GS_P_WBR], bc = op->p[GS_P_WBC];
  uint64_t cols = (uint64_t)kh * kw * (((uint64_t)cin + 3) / 4 * 4);
  if (cols > GS_CAP_DIM) GS_REFUSE("weights have more than %u columns", GS_CAP_DIM);
  GS_TRY(gs_check_param(op, GS_P_WLABEL, "pattern", GS_PATTERN_DENSE, GS_PATTERN_NM, error));
  if (br == 0) {
    if (!op->in[1]) GS_REFUSE("weights are absent");
    stored s = stored_of(op, rows, kh, kw, cin);
    return check_dense(op, &s, error);
  }
  if ((br != 1 && br != 4) || (bc != 1 && bc != 4)) GS_REFUSE("block of %dx%d is not 1x1, 1x4, 4x1 or 4x4", (int)br, (int)bc);
  GS_TRY(gs_check_param(op, GS_P_WENC, "index encoding", GS_ENC_DELTA8, GS_ENC_BITMAP, error));
  GS_TRY(gs_check_param(op, GS_P_WBLOCKS, "number of blocks", 0, GS_CAP_ELEMENTS / (br * bc), error));
  if (!op->in[2]) GS_REFUSE("sparse weights lack their index");
  if (op->p[GS_P_WBLOCKS] > 0) {
    if (!op->in[1]) GS_REFUSE("weights are absent");
    GS_TRY(gs_check_const(op, op->in[1], "the weights", op->in[0]->dtype,
                          (uint64_t)op->p[GS_P_WBLOCKS] * (uint32_t)(br * bc), error));
  }
  GS_TRY(gs_check_const(op, op->in[2], "the weight index", GS_U8, gs_elements(op->in[2]), error));
  stored s = stored_of(op, rows, kh, kw, cin);
  uint64_t fixed = (uint64_t)s.block_rows * (s.enc == GS_ENC_BITMAP ? 2 + bitmap_bytes(&s) : 2);
  if (s.index_size < fixed || (s.enc == GS_ENC_BITMAP && s.index_size != fixed))
    GS_REFUSE("index has %llu bytes, must have %llu", (unsigned long long)s.index_size, (unsigned long long)fixed);
  return check_blocks(op, &s, error);
}

/* Dense values with the columns of every tap padded to cp (S8) or as they are (F32). */
static gs_status decode_dense(const gs_op *op, const stored *s, gs_weights *out, gs_error *error) {
  uint64_t k = (uint64_t)s->taps * s->cin;
  for (uint64_t i = 0; i < s->rows * k; i++)
    out->nonzero += s->dtype == GS_F32 ? ((const float *)s->values)[i] != 0.0f : ((const int8_t *)s->values)[i] != 0;
  out->m.values = s->values;
  if (s->dtype == GS_F32 || s->cp == s->cin) return GS_OK;
  uint64_t bytes = (uint64_t)s->rows * s->taps * s->cp;
  int8_t *to = bytes > GS_SCRATCH_MAX ? NULL : gs_alloc((size_t)bytes);
  if (!to) return gs_fail_op(error, GS_E_MEMORY, op, "no memory for weights");
  out->memory = to;
  out->m.values = to;
  for (uint64_t t = 0; t < (uint64_t)s->rows * s->taps; t++)
    memcpy(to + t * s->cp, (const int8_t *)s->values + t * s->cin, s->cin);
  return GS_OK;
}

/* Blocks that run dense (label DENSE): every value at its place in the matrix of decode_dense. */
static gs_status decode_spread(const gs_op *op, const stored *s, gs_weights *out, gs_error *error) {
  uint32_t cols = s->taps * (s->dtype == GS_F32 ? s->cin : s->cp);
  size_t item = s->dtype == GS_F32 ? 4 : 1;
  uint64_t bytes = (uint64_t)s->rows * cols * item;
  uint8_t *to = bytes > GS_SCRATCH_MAX ? NULL : gs_alloc((size_t)bytes);
  if (!to) return gs_fail_op(error, GS_E_MEMORY, op, "no memory for weights");
  memset(to, 0, (size_t)bytes);
  out->memory = to;
  out->m.values = to;
  reader r = {.s = s};
  const uint8_t *from = s->values;
  for (uint32_t i = 0; i < s->block_rows; i++) {
    uint32_t col = 0;
    reader_row(&r, i);
    while (reader_next(&r, &col) == 1) {
      for (uint32_t y = 0; y < s->br; y++) {
        for (uint32_t x = 0; x < s->bc; x++, from += item) {
          uint32_t row = i * s->br + y, c = col * s->bc + x;
          if (row >= s->rows || c % s->cp >= s->cin) continue; /* padding, checked to be 0 */
          if (s->dtype == GS_F32) c = c / s->cp * s->cin + c % s->cp;
          memcpy(to + ((size_t)row * cols + c) * item, from, item);
          float value = *from;
          if (s->dtype == GS_F32) memcpy(&value, from, item);
          out->nonzero += value != 0.0f;
        }
      }
    }
  }
  return GS_OK;
}

/* Blocks in the making: tr x tc each. */
typedef struct {
  const stored *s;
  uint32_t tr, tc, n, group_first; /* group_first: first block of the group of columns being filled (tc 4 from bc 1) */
  uint32_t *col;
  uint8_t *values;
  size_t item;
} builder;

/* Adds one source block's rows [row, row + tr) unless they are all zero, cut or merged to tc columns. */
static void add_block(builder *b, const uint8_t *block, uint32_t row, uint32_t col) {
  const stored *s = b->s;
  size_t item = b->item;
  static const uint8_t zero[16] = {0};
  if (b->tc == s->bc && s->dtype == GS_S8) {
    const uint8_t *from = block + row * s->bc * item;
    if (b->tr * b->tc == 4) { /* one group of one row, or one column of four */
      uint32_t four;
      memcpy(&four, from, 4);
      if (!four) return;
      memcpy(b->values + (size_t)b->n * 4, &four, 4);
    } else {
      if (!memcmp(from, zero, b->tr * b->tc)) return;
      memcpy(b->values + (size_t)b->n * b->tr * b->tc, from, b->tr * b->tc);
    }
    b->col[b->n++] = col;
    return;
  }
  for (uint32_t x = 0; x < s->bc; x++) {
    uint8_t column[16] = {0};
    uint32_t c = col * s->bc + x;
    for (uint32_t y = 0; y < b->tr; y++) memcpy(column + y * item, block + ((row + y) * s->bc + x) * item, item);
    bool nonzero = false;
    for (uint32_t y = 0; y < b->tr; y++) {
      float v = 0;
      if (s->dtype == GS_F32) memcpy(&v, column + y * item, 4); /* -0.0 is a zero, too */
      nonzero |= s->dtype == GS_F32 ? v != 0.0f : column[y] != 0;
    }
    if (!nonzero) continue;
    if (b->tc == 1) {
      memcpy(b->values + (size_t)b->n * b->tr * item, column, b->tr * item);
      b->col[b->n++] = s->dtype == GS_F32 ? c / s->cp * s->cin + c % s->cp : c;
      continue;
    }
    /* one row, single columns of S8 gathered to groups of four; a repeated column opens another block */
    if (b->group_first == b->n || b->col[b->n - 1] != c / 4) b->group_first = b->n;
    uint32_t i = b->group_first;
    while (i < b->n && b->values[(size_t)i * 4 + c % 4]) i++;
    if (i == b->n) b->col[b->n++] = c / 4;
    b->values[(size_t)i * 4 + c % 4] = column[0];
  }
}

static gs_status decode_blocks(const gs_op *op, const stored *s, gs_form wanted, gs_weights *out, gs_error *error) {
  builder b = {.s = s, .item = s->dtype == GS_F32 ? 4 : 1};
  b.tr = wanted == GS_FORM_1X4 ? 1 : 4;
  b.tc = s->dtype == GS_S8 && wanted != GS_FORM_4X1 ? 4 : 1;
  if (wanted == GS_FORM_DENSE || (b.tr == 4 && s->br != 4) || (b.tr == 4 && b.tc == 4 && s->bc != 4))
    return gs_fail_op(error, GS_E_UNSUPPORTED, op, "blocks of %ux%u have no kernel of this form", s->br, s->bc);
  uint32_t lists = gs_ceil_div(s->rows, b.tr);
  uint64_t most = (uint64_t)s->blocks * (s->br / b.tr) * (s->bc > b.tc ? s->bc / b.tc : 1);
  uint64_t starts = ((uint64_t)lists + 1) * 4, cols = most * 4, values = most * b.tr * b.tc * b.item;
  if (starts + cols + values > GS_SCRATCH_MAX || !(out->memory = gs_alloc((size_t)(starts + cols + values))))
    return gs_fail_op(error, GS_E_MEMORY, op, "no memory for weights");
  uint32_t *start = out->memory;
  b.col = start + lists + 1;
  b.values = (uint8_t *)(b.col + most);
  reader r = {.s = s};
  const uint8_t *row_values = s->values;
  size_t block_bytes = s->br * s->bc * b.item;
  for (uint32_t i = 0; i < s->block_rows; i++) {
    reader begin = r;
    const uint8_t *block = row_values;
    for (uint32_t y = 0; y < s->br && i * s->br + y < s->rows; y += b.tr) {
      uint32_t col = 0;
      start[(i * s->br + y) / b.tr] = b.group_first = b.n;
      r = begin;
      reader_row(&r, i);
      block = row_values;
      while (reader_next(&r, &col) == 1) {
        add_block(&b, block, y, col);
        block += block_bytes;
      }
    }
    row_values = block;
  }
  start[lists] = b.n;
  for (uint64_t i = 0; i < (uint64_t)s->blocks * s->br * s->bc; i++)
    out->nonzero += s->dtype == GS_F32 ? ((const float *)s->values)[i] != 0.0f : ((const int8_t *)s->values)[i] != 0;
  out->m.br = b.tr;
  out->m.bc = b.tc;
  out->m.start = start;
  out->m.col = b.col;
  out->m.values = b.values;
  return GS_OK;
}

gs_status gs_weights_decode(const gs_op *op, uint32_t rows, uint32_t kh, uint32_t kw, uint32_t cin, gs_form wanted,
                            gs_weights *out, gs_error *error) {
  stored s = stored_of(op, rows, kh, kw, cin);
  memset(out, 0, sizeof *out);
  out->m.dtype = s.dtype;
  out->m.rows = rows;
  out->m.cols = s.taps * (s.dtype == GS_S8 ? s.cp : s.cin);
  gs_status status = !s.br                       ? decode_dense(op, &s, out, error)
                     : wanted == GS_FORM_DENSE ? decode_spread(op, &s, out, error)
                                               : decode_blocks(op, &s, wanted, out, error);
  if (status != GS_OK) gs_weights_free(out);
  return status;
}

gs_status gs_weights_close_up(const gs_op *op, gs_weights *w, uint32_t taps, uint32_t cin, gs_error *error) {
  uint32_t cols = gs_ceil_div(taps * cin, 4) * 4;
  int8_t *to = gs_alloc((size_t)w->m.rows * cols);
  if (!to) return gs_fail_op(error, GS_E_MEMORY, op, "no memory for weights");
  for (uint32_t r = 0; r < w->m.rows; r++)
    for (uint32_t t = 0; t < taps; t++)
      memcpy(to + (size_t)r * cols + (size_t)t * cin, (const int8_t *)w->m.values + (size_t)r * w->m.cols + (size_t)t * 4, cin);
  gs_free(w->memory);
  w->memory = to;
  w->m.values = to;
  w->m.cols = cols;
  return GS_OK;
}

void gs_weights_free(gs_weights *w) {
  gs_free(w->memory);
  w->memory = NULL;
}
