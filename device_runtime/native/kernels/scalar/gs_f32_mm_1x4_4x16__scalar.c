/* Sparse f32: each row has its own list of single columns. */
#include "scalar.h"

void gs_f32_mm_1x4_4x16__scalar(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  uint32_t n = gs_scalar_chunk(a);
  for (uint32_t row = a->block0 * 4; row < a->block1 * 4; row++)
    for (uint32_t px = 0; px < a->npx; px += n) {
      const uint8_t *x = (const uint8_t *)a->x + (size_t)px * 4;
      float acc[GS_PX];
      for (uint32_t p = 0; p < n; p++) acc[p] = ((const float *)w->bias)[row];
      for (uint32_t e = w->start[row]; e < w->start[row + 1]; e++) {
        const float *xe = (const float *)(x + w->off[e]);
        float v = ((const float *)w->val)[e];
        for (uint32_t p = 0; p < n; p++) acc[p] += xe[p] * v;
      }
      gs_scalar_store_f32(a, row, px, n, acc);
    }
}

/* The same for one pixel. */
void gs_f32_mm_1x4_4x1__scalar(const gs_mm_args *a) { gs_f32_mm_1x4_4x16__scalar(a); }
