/* Lists in fours (kernels.h): rows of single f32 columns, cut into slices of K, sorted by length and taken four at a time. */
#include <string.h>

#include "core.h"
#include "pack.h"

/* The entries of one row that fall into one slice. */
typedef struct {
  uint32_t row, first, n;
} piece;

/* First entry of a row at or beyond a column; columns of a row ascend. */
static uint32_t entry_at(const gs_matrix *m, uint32_t row, uint32_t col) {
  uint32_t low = m->start[row], high = m->start[row + 1];
  while (low < high) {
    uint32_t mid = low + (high - low) / 2;
    if (m->col[mid] < col) low = mid + 1;
    else high = mid;
  }
  return low;
}

/* Rows of a row block in one slice, the longest first; equal ones stay in order, so that rows of padding come last. */
static void sort_block(const gs_matrix *m, uint32_t rows, uint32_t block, uint32_t col0, uint32_t col1, piece *to) {
  for (uint32_t i = 0; i < rows; i++) {
    piece p = {block * rows + i, 0, 0};
    if (p.row < m->rows) {
      p.first = entry_at(m, p.row, col0);
      p.n = entry_at(m, p.row, col1) - p.first;
    }
    uint32_t at = i;
    for (; at > 0 && to[at - 1].n < p.n; at--) to[at] = to[at - 1];
    to[at] = p;
  }
}

uint32_t gs_fours_slices(const gs_matrix *m) { return gs_ceil_div(m->cols, GS_SLICE); }

uint64_t gs_fours_steps(const gs_mm_kernel *k, const gs_matrix *m) {
  piece rows[GS_BLOCK_ROWS];
  uint32_t slices = gs_fours_slices(m), blocks = gs_ceil_div(m->rows, k->rows), col0, col1;
  uint64_t steps = 0;
  for (uint32_t s = 0; s < slices; s++)
    for (uint32_t b = 0; b < blocks; b++) {
      col0 = gs_slice_first(m->cols, slices, s), col1 = gs_slice_first(m->cols, slices, s + 1);
      sort_block(m, k->rows, b, col0, col1, rows);
      for (uint32_t i = 0; i < k->rows; i += 4) steps += rows[i].n;
    }
  return steps;
}

void gs_pack_fours(const gs_mm_kernel *k, const gs_matrix *m, uint32_t *start, uint32_t *order, uint8_t *off, float *val) {
  piece rows[GS_BLOCK_ROWS];
  uint32_t slices = gs_fours_slices(m), blocks = gs_ceil_div(m->rows, k->rows), col0, col1, step = 0;
  for (uint32_t s = 0; s < slices; s++)
    for (uint32_t b = 0; b < blocks; b++) {
      col0 = gs_slice_first(m->cols, slices, s), col1 = gs_slice_first(m->cols, slices, s + 1);
      sort_block(m, k->rows, b, col0, col1, rows);
      for (uint32_t i = 0; i < k->rows; i += 4) {
        *start++ = step;
        for (uint32_t r = 0; r < 4; r++) {
          const piece *p = &rows[i + r];
          *order++ = p->row;
          for (uint32_t e = 0; e < rows[i].n; e++) {
            size_t at = (size_t)(step + e) * 4 + r;
            off[at] = (uint8_t)(e < p->n ? m->col[p->first + e] - col0 : 0);
            val[at] = e < p->n ? ((const float *)m->values)[p->first + e] : 0.0f;
          }
        }
        step += rows[i].n;
      }
    }
  *start = step;
}
