/* Lists in fours (kernels.h): rows of single f32 columns, cut into slices of K, sorted by length and taken four at a time. */
#include "core.h"
#include "pack.h"

uint32_t gs_fours_slices(const gs_matrix *m) { return gs_ceil_div(m->cols, GS_SLICE); }

uint64_t gs_fours_steps(const gs_mm_kernel *k, const gs_matrix *m) {
  gs_piece rows[GS_BLOCK_ROWS];
  uint32_t slices = gs_fours_slices(m), blocks = gs_ceil_div(m->rows, k->rows), col0, col1;
  uint64_t steps = 0;
  for (uint32_t s = 0; s < slices; s++)
    for (uint32_t b = 0; b < blocks; b++) {
      col0 = gs_slice_first(m->cols, slices, s), col1 = gs_slice_first(m->cols, slices, s + 1);
      gs_take_block(m, k->rows, b, col0, col1, true, rows);
      for (uint32_t i = 0; i < k->rows; i += 4) steps += rows[i].n;
    }
  return steps;
}

void gs_pack_fours(const gs_mm_kernel *k, const gs_matrix *m, uint32_t *start, uint32_t *order, uint8_t *off, float *val) {
  gs_piece rows[GS_BLOCK_ROWS];
  uint32_t slices = gs_fours_slices(m), blocks = gs_ceil_div(m->rows, k->rows), col0, col1, step = 0;
  for (uint32_t s = 0; s < slices; s++)
    for (uint32_t b = 0; b < blocks; b++) {
      col0 = gs_slice_first(m->cols, slices, s), col1 = gs_slice_first(m->cols, slices, s + 1);
      gs_take_block(m, k->rows, b, col0, col1, true, rows);
      for (uint32_t i = 0; i < k->rows; i += 4) {
        *start++ = step;
        for (uint32_t r = 0; r < 4; r++) {
          const gs_piece *p = &rows[i + r];
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
