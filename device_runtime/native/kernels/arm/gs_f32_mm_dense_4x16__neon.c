/* Dense f32: four rows times sixteen pixels (armv7: eight). */
#include "a64_mm.h"
#include "neon_f32.h"

void gs_f32_mm_dense_4x16__neon(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  for (uint32_t p = 0; p < a->npx; p += 4 * GS_VECTORS_F32)
    for (uint32_t b = a->block0; b < a->block1; b++) {
      const char *x = (const char *)a->x + (size_t)p * 4;
      const float *val = (const float *)w->val + (size_t)b * w->groups * 4;
      const float *bias = (const float *)w->bias + (size_t)b * 4;
#if defined(__aarch64__)
      float32x4_t acc[16];
      GS_TILE_DENSE(acc, float32x4_t, bias, val, x, a->x_stride, w->groups, "fmla", "4s", "s");
#else
      GS_F32_START(acc, bias);
      for (uint32_t k = w->groups; k != 0; k--, val += 4, x += a->x_stride) gs_rowsn(acc, x, val);
#endif
      gs_store_tilen(a, b, p, acc);
    }
}
