/* Sparse f32 in 4x1 blocks: four rows share a list of columns; sixteen pixels at a time (armv7: eight). */
#include "a64_mm.h"
#include "neon_f32.h"

void gs_f32_mm_4x4_4x16__neon(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  for (uint32_t p = 0; p < a->npx; p += 4 * GS_VECTORS_F32)
    for (uint32_t b = a->block0; b < a->block1; b++) {
      const char *x = (const char *)a->x + (size_t)p * 4;
      const float *bias = (const float *)w->bias + (size_t)b * 4;
#if defined(__aarch64__)
      float32x4_t acc[16];
      GS_TILE_4X4(acc, float32x4_t, bias, w, x, w->start[b], w->start[b + 1], "fmla", "4s", "s");
#else
      GS_F32_START(acc, bias);
      for (uint32_t e = w->start[b], last = w->start[b + 1]; e < last; e++)
        gs_rowsn(acc, x + w->off[e], (const float *)w->val + (size_t)e * 4);
#endif
      gs_store_tilen(a, b, p, acc);
    }
}
