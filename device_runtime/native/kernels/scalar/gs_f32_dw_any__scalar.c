/* Depthwise f32, any window: one channel of a padded plane. */
#include "scalar.h"

void gs_f32_dw_any__scalar(const gs_dw_args *a) {
  const float *w = a->w;
  for (uint32_t oy = 0; oy < a->oh; oy++)
    for (uint32_t ox = 0; ox < a->ow; ox++) {
      float acc = *(const float *)a->bias;
      for (uint32_t ky = 0; ky < a->kh; ky++) {
        const float *x = (const float *)((const uint8_t *)a->x + (size_t)(oy * a->sh + ky * a->dh) * a->x_row);
        for (uint32_t kx = 0; kx < a->kw; kx++) acc += x[ox * a->sw + kx * a->dw] * w[(size_t)ky * a->kw + kx];
      }
      float v = acc > a->lo ? acc : a->lo;
      ((float *)a->y)[(size_t)oy * a->ow + ox] = v < a->hi ? v : a->hi;
    }
}
