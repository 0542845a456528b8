/* Lists in steps (kernels.h): rows of 1x4 int8 blocks, cut into slices of K, four entries at a time. */
#include <string.h>

#include "core.h"
#include "pack.h"

uint32_t gs_steps_slices(const gs_matrix *m) { return gs_ceil_div(m->cols / 4, GS_STEPS_SLICE); }

/* Goes through the entries of one row slice by slice. */
static uint32_t slice_end(const gs_matrix *m, uint32_t row, uint32_t from, uint32_t group_end) {
  while (from < m->start[row + 1] && m->col[from] < group_end) from++;
  return from;
}

uint64_t gs_steps_count(const gs_matrix *m) {
  uint32_t slices = gs_steps_slices(m), groups = m->cols / 4;
  uint64_t steps = 0;
  for (uint32_t r = 0; r < m->rows; r++)
    for (uint32_t s = 0, e = m->start[r]; s < slices; s++) {
      uint32_t end = slice_end(m, r, e, gs_slice_first(groups, slices, s + 1));
      steps += gs_ceil_div(end - e, 4);
      e = end;
    }
  return steps;
}

/* Entries [e, end) of one list, filled up with zero weights on the last group. */
static void put_steps(const gs_matrix *m, uint32_t e, uint32_t end, uint32_t first_group, size_t unit, uint16_t *off, int8_t *val) {
  uint32_t n = end - e, full = gs_ceil_div(n, 4) * 4;
  if (n) memcpy(val, (const int8_t *)m->values + (size_t)e * 4, (size_t)n * 4);
  for (uint32_t i = 0; i < full; i++) off[i] = (uint16_t)((m->col[i < n ? e + i : end - 1] - first_group) * unit);
  memset(val + (size_t)n * 4, 0, (size_t)(full - n) * 4);
}

void gs_pack_steps(const gs_matrix *m, size_t x_stride, uint32_t lists, uint32_t *start, uint16_t *off, int8_t *val) {
  uint32_t slices = gs_steps_slices(m), groups = m->cols / 4, step = 0;
  for (uint32_t s = 0; s < slices; s++) {
    uint32_t first = gs_slice_first(groups, slices, s), last = gs_slice_first(groups, slices, s + 1);
    for (uint32_t r = 0; r < lists; r++) {
      *start++ = step;
      if (r >= m->rows) continue;
      uint32_t e = slice_end(m, r, m->start[r], first), end = slice_end(m, r, e, last);
      put_steps(m, e, end, first, x_stride / 64, off + (size_t)step * 4, val + (size_t)step * 16);
      step += gs_ceil_div(end - e, 4);
    }
  }
  *start = step;
}
