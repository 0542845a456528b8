/* Sorted lists (kernels.h): rows of 1x4 int8 blocks, cut into slices of K, by falling length within a row block. */
#include <string.h>

#include "core.h"
#include "pack.h"

/* The entries of one row that fall into one slice. */
typedef struct {
  uint32_t row, first, n;
} piece;

/* First entry of a row at or beyond a group; groups of a row ascend. */
static uint32_t entry_at(const gs_matrix *m, uint32_t row, uint32_t group) {
  uint32_t low = m->start[row], high = m->start[row + 1];
  while (low < high) {
    uint32_t mid = low + (high - low) / 2;
    if (m->col[mid] < group) low = mid + 1;
    else high = mid;
  }
  return low;
}

/* Rows of one block in one slice, the longest first if sorted. */
static void take_block(const gs_matrix *m, uint32_t rows, uint32_t block, uint32_t group0, uint32_t group1, bool sorted,
                       piece *to) {
  for (uint32_t i = 0; i < rows; i++) {
    piece p = {block * rows + i, 0, 0};
    if (p.row < m->rows) {
      p.first = entry_at(m, p.row, group0);
      p.n = entry_at(m, p.row, group1) - p.first;
    }
    uint32_t at = i;
    for (; sorted && at > 0 && to[at - 1].n < p.n; at--) to[at] = to[at - 1];
    to[at] = p;
  }
}

uint32_t gs_sorted_slices(const gs_matrix *m) { return gs_ceil_div(m->cols / 4, GS_SORTED_SLICE); }

void gs_pack_sorted(const gs_mm_kernel *k, const gs_matrix *m, size_t x_stride, uint32_t *start, uint32_t *order, uint16_t *off,
                    int8_t *val) {
  piece rows[GS_BLOCK_ROWS];
  uint32_t slices = gs_sorted_slices(m), blocks = gs_ceil_div(m->rows, k->rows), groups = m->cols / 4, n = 0;
  for (uint32_t s = 0; s < slices; s++) {
    uint32_t group0 = gs_slice_first(groups, slices, s), group1 = gs_slice_first(groups, slices, s + 1);
    for (uint32_t b = 0; b < blocks; b++) {
      take_block(m, k->rows, b, group0, group1, slices > 1, rows);
      for (uint32_t i = 0; i < k->rows; i++) {
        const piece *p = &rows[i];
        *start++ = n;
        *order++ = p->row;
        for (uint32_t e = 0; e < p->n; e++) off[n + e] = (uint16_t)((m->col[p->first + e] - group0) * (x_stride / 64));
        if (p->n) memcpy(val + (size_t)n * 4, (const int8_t *)m->values + (size_t)p->first * 4, (size_t)p->n * 4);
        n += p->n;
      }
    }
  }
  *start = n;
}
