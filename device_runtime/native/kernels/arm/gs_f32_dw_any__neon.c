/* Depthwise f32, any window, stride and dilation: four output pixels at a time, the last one repeated where the row ends. */
#include "neon.h"

void gs_f32_dw_any__neon(const gs_dw_args *a) {
  const float32x4_t lo = vdupq_n_f32(a->lo), hi = vdupq_n_f32(a->hi), bias = vdupq_n_f32(*(const float *)a->bias);
  for (uint32_t oy = 0; oy < a->oh; oy++)
    for (uint32_t ox = 0; ox < a->ow; ox += 4) {
      const uint32_t left = a->ow - ox;
      size_t at[4];
      for (uint32_t i = 0; i < 4; i++) at[i] = (size_t)(ox + (i < left ? i : left - 1)) * a->sw;
      const char *x = (const char *)a->x + (size_t)oy * a->sh * a->x_row;
      const float *w = a->w;
      float32x4_t acc = bias;
      for (uint32_t ky = 0; ky < a->kh; ky++)
        for (uint32_t kx = 0; kx < a->kw; kx++, w++) {
          const float *xt = (const float *)(const void *)(x + (size_t)ky * a->dh * a->x_row) + (size_t)kx * a->dw;
          const float xv[4] = {xt[at[0]], xt[at[1]], xt[at[2]], xt[at[3]]};
          acc = vfmaq_f32(acc, vld1q_f32(xv), vdupq_n_f32(*w));
        }
      acc = vminq_f32(vmaxq_f32(acc, lo), hi);
      gs_store_pixelsn((float *)a->y + (size_t)oy * a->ow + ox, vreinterpretq_s8_f32(acc), left);
    }
}
