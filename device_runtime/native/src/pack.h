/* The packed forms that have files of their own, for src/pack.c. */
#ifndef GS_PACK_H
#define GS_PACK_H
#include <stdbool.h>

#include "kernels.h"

/* Whether a kernel's lists are packed in fours. */
static inline int gs_in_fours(const gs_mm_kernel *k) {
  return k->dtype == GS_F32 && k->form == GS_FORM_1X4 && k->rows > 4;
}

/* The entries of one row that fall into one slice of K. */
typedef struct {
  uint32_t row, first, n;
} gs_piece;

/* Rows of a row block between two columns, in units of m->col. Sorted: the longest first; equal ones stay in order, so that rows of
 * padding come last. */
void gs_take_block(const gs_matrix *m, uint32_t rows, uint32_t block, uint32_t col0, uint32_t col1, bool sorted, gs_piece *to);

uint32_t gs_sorted_slices(const gs_matrix *m);
/* start: slices * padded rows + 1; order: slices * padded rows; off: one per entry; val: four bytes per entry. */
void gs_pack_sorted(const gs_mm_kernel *k, const gs_matrix *m, size_t x_stride, uint32_t *start, uint32_t *order, uint16_t *off,
                    int8_t *val);

uint32_t gs_fours_slices(const gs_matrix *m);
/* Steps of all lists: each is four offsets and four values. */
uint64_t gs_fours_steps(const gs_mm_kernel *k, const gs_matrix *m);
/* start: slices * row blocks * rows / 4 + 1; order: slices * row blocks * rows; off and val: 4 * steps. */
void gs_pack_fours(const gs_mm_kernel *k, const gs_matrix *m, uint32_t *start, uint32_t *order, uint8_t *off, float *val);
#endif
