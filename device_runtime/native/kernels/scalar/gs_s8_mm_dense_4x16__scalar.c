/* Dense int8: every group of four columns, in order. */
#include "scalar.h"

void gs_s8_mm_dense_4x16__scalar(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  uint32_t n = gs_scalar_chunk(a);
  for (uint32_t row = a->block0 * 4; row < a->block1 * 4; row++)
    for (uint32_t px = 0; px < a->npx; px += n) {
      const int8_t *x = (const int8_t *)a->x + (size_t)px * 4;
      const int8_t *val = (const int8_t *)w->val + (size_t)(row / 4) * w->groups * 16 + row % 4 * 4;
      int32_t acc[GS_PX];
      for (uint32_t p = 0; p < n; p++) acc[p] = ((const int32_t *)w->bias)[row];
      for (uint32_t g = 0; g < w->groups; g++) gs_scalar_dot4(acc, x + g * a->x_stride, val + (size_t)g * 16, n);
      gs_scalar_store_s8(a, row, px, n, acc);
    }
}

/* The same for one pixel. */
void gs_s8_mm_dense_4x1__scalar(const gs_mm_args *a) { gs_s8_mm_dense_4x16__scalar(a); }
