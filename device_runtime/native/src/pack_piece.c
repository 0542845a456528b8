/* Rows of a row block cut to one slice of K, for the packed forms that slice it. */
#include "core.h"
#include "pack.h"

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

void gs_take_block(const gs_matrix *m, uint32_t rows, uint32_t block, uint32_t col0, uint32_t col1, bool sorted, gs_piece *to) {
  for (uint32_t i = 0; i < rows; i++) {
    gs_piece p = {block * rows + i, 0, 0};
    if (p.row < m->rows) {
      p.first = entry_at(m, p.row, col0);
      p.n = entry_at(m, p.row, col1) - p.first;
    }
    uint32_t at = i;
    for (; sorted && at > 0 && to[at - 1].n < p.n; at--) to[at] = to[at - 1];
    to[at] = p;
  }
}
