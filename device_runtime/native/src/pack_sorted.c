/* Sorted lists (kernels.h): rows of 1x4 int8 blocks, cut into slices of K, by falling length within a row block. */
#include <string.h>

#include "core.h"
#include "pack.h"

uint32_t gs_sorted_slices(const gs_matrix *m) { return gs_ceil_div(m->cols / 4, GS_SORTED_SLICE); }

void gs_pack_sorted(const gs_mm_kernel *k, const gs_matrix *m, size_t x_stride, uint32_t *start, uint32_t *order, uint16_t *off,
                    int8_t *val) {
  gs_piece rows[GS_BLOCK_ROWS];
  uint32_t slices = gs_sorted_slices(m), blocks = gs_ceil_div(m->rows, k->rows), groups = m->cols / 4, n = 0;
  for (uint32_t s = 0; s < slices; s++) {
    uint32_t group0 = gs_slice_first(groups, slices, s), group1 = gs_slice_first(groups, slices, s + 1);
    for (uint32_t b = 0; b < blocks; b++) {
      gs_take_block(m, k->rows, b, group0, group1, slices > 1, rows);
      for (uint32_t i = 0; i < k->rows; i++) {
        const gs_piece *p = &rows[i];
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
