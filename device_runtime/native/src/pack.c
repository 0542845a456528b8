/* Canonical matrix -> the packed weights of one micro-kernel (forms: kernels.h). */
#include <string.h>

#include "core.h"
#include "pack.h"

/* Sizes of the parts of one allocation, and where each starts. */
typedef struct {
  uint64_t start, order, off, val, bias, scale, total;
} parts;

static uint64_t part(uint64_t *total, uint64_t bytes) {
  uint64_t at = *total;
  *total += (bytes + 63) / 64 * 64;
  return at;
}

static void put(const gs_mm_kernel *k, void *val, size_t at, const void *from, size_t i) {
  if (k->dtype == GS_F32) ((float *)val)[at] = from ? ((const float *)from)[i] : 0.0f;
  else if (k->widen & GS_WIDE_W) ((int16_t *)val)[at] = from ? ((const int8_t *)from)[i] : 0;
  else ((int8_t *)val)[at] = from ? ((const int8_t *)from)[i] : 0;
}

/* [row block][group][rows][lanes] */
static void pack_dense(const gs_mm_kernel *k, const gs_matrix *m, gs_packed *out, void *val) {
  uint32_t lanes = k->dtype == GS_S8 ? 4 : 1;
  size_t at = 0;
  if (!(k->widen & GS_WIDE_W)) { /* a group of a row is one 32-bit word in both types: packing is part of every cold start */
    const uint8_t *from = m->values;
    uint8_t *to = val;
    for (uint32_t b = 0; b < out->row_blocks; b++)
      for (uint32_t r = b * k->rows, left = m->rows - r < k->rows ? m->rows - r : k->rows, i = 0; i < left; i++)
        for (uint32_t g = 0; g < out->groups; g++)
          memcpy(to + (((size_t)b * out->groups + g) * k->rows + i) * 4, from + ((size_t)(r + i) * out->groups + g) * 4, 4);
    return; /* the rows of padding stay as allocated, zero */
  }
  for (uint32_t b = 0; b < out->row_blocks; b++)
    for (uint32_t g = 0; g < out->groups; g++)
      for (uint32_t r = b * k->rows; r < (b + 1) * k->rows; r++)
        for (uint32_t l = 0; l < lanes; l++)
          put(k, val, at++, r < m->rows ? m->values : NULL, (size_t)r * m->cols + (size_t)g * lanes + l);
}

/* Lists of entries, each a whole block. */
static void pack_lists(const gs_mm_kernel *k, const gs_matrix *m, size_t x_stride, uint32_t lists, uint32_t filled,
                       uint32_t *start, uint32_t *off, void *val) {
  uint32_t block = m->br * m->bc;
  for (uint32_t i = 0; i <= lists; i++) start[i] = m->start[i < filled ? i : filled];
  size_t n = m->start[filled];
  for (size_t e = 0; e < n; e++) off[e] = (uint32_t)(m->col[e] * x_stride);
  if (k->widen & GS_WIDE_W)
    for (size_t v = 0; v < n * block; v++) put(k, val, v, m->values, v);
  else if (n != 0)
    memcpy(val, m->values, n * block * (k->dtype == GS_F32 ? 4 : 1));
}

/* Lists of single S8 columns for four rows, padded to fours: per four entries [row][entry]. */
static void pack_4x1(const gs_mm_kernel *k, const gs_matrix *m, size_t x_stride, uint32_t lists, uint32_t filled,
                     uint32_t *start, uint32_t *off, void *val) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < lists; i++) {
    start[i] = n;
    uint32_t first = i < filled ? m->start[i] : 0, last = i < filled ? m->start[i + 1] : 0;
    for (uint32_t e = first; e < last; e += 4, n += 4)
      for (uint32_t j = 0; j < 4; j++) {
        uint32_t c = e + j < last ? e + j : last - 1;
        off[n + j] = (uint32_t)(m->col[c] / 4 * x_stride + m->col[c] % 4);
        for (uint32_t r = 0; r < 4; r++)
          put(k, val, (size_t)n * 4 + r * 4 + j, e + j < last ? m->values : NULL, (size_t)c * 4 + r);
      }
  }
  start[lists] = n;
}

/* Sum of one row's weights: what a kernel that shifts x by x_offset must take back. */
static int64_t row_sum(const gs_matrix *m, uint32_t row) {
  const int8_t *v = m->values;
  int64_t sum = 0;
  if (!m->start) {
    for (uint32_t c = 0; c < m->cols; c++) sum += v[(size_t)row * m->cols + c];
    return sum;
  }
  uint32_t list = row / m->br, block = m->br * m->bc;
  for (uint32_t e = m->start[list]; e < m->start[list + 1]; e++)
    for (uint32_t c = 0; c < m->bc; c++) sum += v[(size_t)e * block + row % m->br * m->bc + c];
  return sum;
}

static void pack_rows(const gs_mm_kernel *k, const gs_matrix *m, const void *bias, const float *scale, void *to_bias,
                      float *to_scale) {
  for (uint32_t r = 0; r < m->rows; r++) {
    if (k->dtype == GS_F32) {
      ((float *)to_bias)[r] = bias ? ((const float *)bias)[r] : 0.0f;
      continue;
    }
    int64_t b = bias ? ((const int32_t *)bias)[r] : 0;
    if (k->x_offset) b -= (int64_t)k->x_offset * row_sum(m, r);
    ((int32_t *)to_bias)[r] = (int32_t)b;
    to_scale[r] = scale ? scale[r] : 0.0f;
  }
}

static bool fits(const gs_mm_kernel *k, const gs_matrix *m, size_t x_stride) {
  if (k->dtype != m->dtype || k->rows % 4 || !k->rows || !m->rows) return false;
  if (gs_in_fours(k) && k->rows > GS_BLOCK_ROWS) return false;
  if (k->widen & GS_SORTED && (k->rows > GS_BLOCK_ROWS || x_stride % 64 || x_stride > GS_SORTED_STRIDE)) return false;
  if (k->dtype == GS_S8 && m->cols % 4) return false;
  if (k->form == GS_FORM_DENSE) return !m->start;
  uint32_t br = k->form == GS_FORM_1X4 ? 1 : 4, bc = k->dtype == GS_S8 && k->form != GS_FORM_4X1 ? 4 : 1;
  return m->start && m->br == br && m->bc == bc;
}

gs_status gs_pack(const gs_mm_kernel *k, const gs_matrix *m, const void *bias, const float *scale, size_t x_stride,
                  gs_packed *out) {
  memset(out, 0, sizeof *out);
  if (!fits(k, m, x_stride) || (uint64_t)m->cols * x_stride > 0xFFFFFFFFu) return GS_E_ARGUMENT;
  bool dense = k->form == GS_FORM_DENSE;
  size_t item = k->dtype == GS_F32 ? 4 : k->widen & GS_WIDE_W ? 2 : 1;
  out->rows = m->rows;
  out->row_blocks = gs_ceil_div(m->rows, k->rows);
  out->groups = k->dtype == GS_S8 ? m->cols / 4 : m->cols;
  uint64_t padded = (uint64_t)out->row_blocks * k->rows;
  uint32_t filled = dense ? 0 : gs_ceil_div(m->rows, m->br);
  uint64_t lists = dense ? 0 : padded / m->br, values;
  uint64_t entries = 0, order = 0;
  out->slices = 1;
  out->off_bytes = k->widen & GS_SORTED ? 2 : gs_in_fours(k) ? 1 : 4;
  if (k->widen & GS_SORTED) {
    out->slices = gs_sorted_slices(m);
    order = lists = padded * out->slices;
    entries = m->start[filled];
    values = entries * 4;
  } else if (gs_in_fours(k)) {
    out->slices = gs_fours_slices(m);
    order = padded * out->slices;
    lists = order / 4;
    values = entries = gs_fours_steps(k, m) * 4;
  } else if (!dense) {
    entries = m->start[filled];
    if (k->form == GS_FORM_4X1) {
      entries = 0;
      for (uint32_t i = 0; i < filled; i++) entries += ((uint64_t)m->start[i + 1] - m->start[i] + 3) / 4 * 4;
    }
    values = entries * m->br * m->bc;
  } else {
    values = padded * m->cols;
  }
  parts p = {0};
  p.start = part(&p.total, dense ? 0 : (lists + 1) * 4);
  p.order = part(&p.total, order * 4);
  p.off = part(&p.total, entries * out->off_bytes + (dense ? 0 : GS_WSLACK));
  p.val = part(&p.total, values * item + GS_WSLACK);
  p.bias = part(&p.total, padded * 4);
  p.scale = part(&p.total, k->dtype == GS_S8 ? padded * 4 : 0);
  if (entries > 0xFFFFFFFFu || p.total > 0x7FFFFFFFu) return GS_E_MEMORY;
  uint8_t *memory = gs_alloc((size_t)p.total);
  if (!memory) return GS_E_MEMORY;
  uint32_t *start = (uint32_t *)(memory + p.start), *off = (uint32_t *)(memory + p.off);
  if (dense) pack_dense(k, m, out, memory + p.val);
  else if (k->widen & GS_SORTED)
    gs_pack_sorted(k, m, x_stride, start, (uint32_t *)(memory + p.order), (uint16_t *)(void *)off, (int8_t *)(memory + p.val));
  else if (gs_in_fours(k))
    gs_pack_fours(k, m, start, (uint32_t *)(memory + p.order), memory + p.off, (float *)(memory + p.val));
  else if (k->form == GS_FORM_4X1)
    pack_4x1(k, m, x_stride, (uint32_t)lists, filled, start, off, memory + p.val);
  else pack_lists(k, m, x_stride, (uint32_t)lists, filled, start, off, memory + p.val);
  pack_rows(k, m, bias, scale, memory + p.bias, (float *)(memory + p.scale));
  out->start = dense ? NULL : start;
  out->order = order ? (const uint32_t *)(memory + p.order) : NULL;
  out->off = dense ? NULL : off;
  out->val = memory + p.val;
  out->bias = memory + p.bias;
  out->scale = k->dtype == GS_S8 ? (float *)(memory + p.scale) : NULL;
  out->entries = (size_t)entries;
  out->memory = memory;
  out->bytes = (size_t)p.total;
  return GS_OK;
}

void gs_packed_free(gs_packed *p) {
  gs_free(p->memory);
  memset(p, 0, sizeof *p);
}
