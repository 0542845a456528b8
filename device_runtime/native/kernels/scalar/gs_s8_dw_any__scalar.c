/* Depthwise int8, any window: four channels of a padded plane. */
#include "scalar.h"

void gs_s8_dw_any__scalar(const gs_dw_args *a) {
  const int16_t *w = a->w;
  const int32_t *bias = a->bias;
  for (uint32_t oy = 0; oy < a->oh; oy++)
    for (uint32_t ox = 0; ox < a->ow; ox++) {
      int8_t *y = (int8_t *)a->y + ((size_t)oy * a->ow + ox) * 4;
      for (uint32_t lane = 0; lane < 4; lane++) {
        int32_t acc = bias[lane];
        for (uint32_t ky = 0; ky < a->kh; ky++)
          for (uint32_t kx = 0; kx < a->kw; kx++)
            acc += ((const int8_t *)a->x)[(size_t)(oy * a->sh + ky * a->dh) * a->x_row +
                                          (size_t)(ox * a->sw + kx * a->dw) * 4 + lane] *
                   w[((size_t)ky * a->kw + kx) * 4 + lane];
        y[lane] = (int8_t)gs_requantize((float)acc * a->q.scale[lane], a->q.zp, a->q.lo, a->q.hi);
      }
    }
}
