/* Depthwise f32 3x3 stride 1: four output pixels at a time. */
#include "neon.h"

void gs_f32_dw_3x3s1__neon(const gs_dw_args *a) {
  const float *w = a->w;
  const float32x4_t lo = vdupq_n_f32(a->lo), hi = vdupq_n_f32(a->hi), bias = vdupq_n_f32(*(const float *)a->bias);
  for (uint32_t oy = 0; oy < a->oh; oy++)
    for (uint32_t ox = 0; ox < a->ow; ox += 4) {
      const char *x = (const char *)a->x + (size_t)oy * 1 * a->x_row + (size_t)ox * 4;
      float32x4_t acc = bias;
      GS_UNROLL for (int ky = 0; ky < 3; ky++) {
        const float *row = (const float *)(const void *)(x + (size_t)ky * a->x_row);
        GS_UNROLL for (int kx = 0; kx < 3; kx++) acc = vfmaq_f32(acc, vld1q_f32(row + kx), vdupq_n_f32(w[3 * ky + kx]));
      }
      acc = vminq_f32(vmaxq_f32(acc, lo), hi);
      gs_store_pixelsn((float *)a->y + (size_t)oy * a->ow + ox, vreinterpretq_s8_f32(acc), a->ow - ox);
    }
}
