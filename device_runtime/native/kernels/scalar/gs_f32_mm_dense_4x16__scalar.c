/* Dense f32: every column, in order. */
#include "scalar.h"

void gs_f32_mm_dense_4x16__scalar(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  uint32_t n = gs_scalar_chunk(a);
  for (uint32_t row = a->block0 * 4; row < a->block1 * 4; row++)
    for (uint32_t px = 0; px < a->npx; px += n) {
      const uint8_t *x = (const uint8_t *)a->x + (size_t)px * 4;
      const float *val = (const float *)w->val + (size_t)(row / 4) * w->groups * 4 + row % 4;
      float acc[GS_PX];
      for (uint32_t p = 0; p < n; p++) acc[p] = ((const float *)w->bias)[row];
      for (uint32_t g = 0; g < w->groups; g++) {
        const float *xg = (const float *)(x + g * a->x_stride);
        for (uint32_t p = 0; p < n; p++) acc[p] += xg[p] * val[(size_t)g * 4];
      }
      gs_scalar_store_f32(a, row, px, n, acc);
    }
}

/* The same for one pixel. */
void gs_f32_mm_dense_4x1__scalar(const gs_mm_args *a) { gs_f32_mm_dense_4x16__scalar(a); }
