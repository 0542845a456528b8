/* Sparse int8 in 1x4 blocks by relaxed dot, for x in 0..127: every row has its own groups; 32 pixels at a time, then 16. */
#include "s8_dot.h"

GS_ALONE static void row32(const gs_mm_args *a, const gs_rqw *q, size_t r, uint32_t pixel, int8_t *out) { gs_dot_row(a, q, r, pixel, out, 8); }
GS_ALONE static void row16(const gs_mm_args *a, const gs_rqw *q, size_t r, uint32_t pixel, int8_t *out) { gs_dot_row(a, q, r, pixel, out, 4); }

void gs_s8_mm_1x4_4x32__wasmrelaxed(const gs_mm_args *a) { gs_rows_alone(a, row32, row16); }
