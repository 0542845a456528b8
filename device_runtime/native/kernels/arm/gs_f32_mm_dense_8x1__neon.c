/* Dense f32 times one vector: eight rows, two columns in flight. */
#include "neon_f32.h"

void gs_f32_mm_dense_8x1__neon(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  const float *x = a->x;
  for (uint32_t b = a->block0; b < a->block1; b++) {
    const float *val = (const float *)w->val + (size_t)b * w->groups * 8;
    const float *bias = (const float *)w->bias + (size_t)b * 8;
    float32x4_t acc[4] = {vld1q_f32(bias), vld1q_f32(bias + 4), vdupq_n_f32(0), vdupq_n_f32(0)};
    uint32_t k = 0;
    for (; k + 2 <= w->groups; k += 2, val += 16)
      GS_UNROLL for (uint32_t i = 0; i < 4; i++)
        acc[i] = vfmaq_f32(acc[i], vld1q_f32(val + 4 * i), vdupq_n_f32(x[k + i / 2]));
    if (k < w->groups)
      GS_UNROLL for (uint32_t i = 0; i < 2; i++) acc[i] = vfmaq_f32(acc[i], vld1q_f32(val + 4 * i), vdupq_n_f32(x[k]));
    gs_store_rowsn(a, b * 8, vaddq_f32(acc[0], acc[2]));
    if (b * 8 + 4 < w->rows) gs_store_rowsn(a, b * 8 + 4, vaddq_f32(acc[1], acc[3]));
  }
}
