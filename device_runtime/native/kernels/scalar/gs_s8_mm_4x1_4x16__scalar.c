/* Sparse int8, 4x1 blocks: four rows share a list of single columns, padded to a multiple of four. */
#include "scalar.h"

void gs_s8_mm_4x1_4x16__scalar(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  uint32_t n = gs_scalar_chunk(a);
  for (uint32_t row = a->block0 * 4; row < a->block1 * 4; row++)
    for (uint32_t px = 0; px < a->npx; px += n) {
      const int8_t *x = (const int8_t *)a->x + (size_t)px * 4;
      int32_t acc[GS_PX];
      for (uint32_t p = 0; p < n; p++) acc[p] = ((const int32_t *)w->bias)[row];
      for (uint32_t e = w->start[row / 4]; e < w->start[row / 4 + 1]; e++) {
        int32_t v = ((const int8_t *)w->val)[(size_t)(e / 4) * 16 + row % 4 * 4 + e % 4];
        for (uint32_t p = 0; p < n; p++) acc[p] += x[w->off[e] + (size_t)p * 4] * v;
      }
      gs_scalar_store_s8(a, row, px, n, acc);
    }
}

/* The same for one pixel. */
void gs_s8_mm_4x1_4x1__scalar(const gs_mm_args *a) { gs_s8_mm_4x1_4x16__scalar(a); }
