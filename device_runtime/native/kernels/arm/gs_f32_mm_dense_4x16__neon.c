/* Dense f32: four rows times sixteen pixels (armv7: eight). */
#include "neon_f32.h"

GS_INLINE void tile(const gs_mm_args *a, uint32_t block, uint32_t pixel) {
  const gs_packed *w = a->w;
  const char *x = (const char *)a->x + (size_t)pixel * 4;
  const float *val = (const float *)w->val + (size_t)block * w->groups * 4;
  const float *bias = (const float *)w->bias + (size_t)block * 4;
  float32x4_t acc[GS_VECTORS_F32][4];
  GS_UNROLL for (int v = 0; v < GS_VECTORS_F32; v++) GS_UNROLL for (int r = 0; r < 4; r++) acc[v][r] = vdupq_n_f32(bias[r]);
  for (uint32_t k = w->groups; k != 0; k--, val += 4, x += a->x_stride) {
    const float32x4_t wv = vld1q_f32(val);
    GS_UNROLL for (int v = 0; v < GS_VECTORS_F32; v++) gs_rowsn(acc[v], vld1q_f32((const float *)(const void *)(x + 16 * v)), wv);
  }
  gs_store_tilen(a, block, pixel, acc);
}

void gs_f32_mm_dense_4x16__neon(const gs_mm_args *a) {
  for (uint32_t p = 0; p < a->npx; p += 4 * GS_VECTORS_F32)
    for (uint32_t b = a->block0; b < a->block1; b++) tile(a, b, p);
}
