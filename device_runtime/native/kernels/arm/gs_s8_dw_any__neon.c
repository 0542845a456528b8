/* Depthwise int8, any window, stride, dilation and 16-bit weight: one pixel of four lanes at a time. */
#include "neon.h"

void gs_s8_dw_any__neon(const gs_dw_args *a) {
  const gs_rqn q = gs_rqn_make(&a->q);
  const int32x4_t bias = vld1q_s32(a->bias);
  for (uint32_t oy = 0; oy < a->oh; oy++)
    for (uint32_t ox = 0; ox < a->ow; ox++) {
      const int8_t *x = (const int8_t *)a->x + (size_t)oy * a->sh * a->x_row + (size_t)ox * a->sw * 4;
      const int16_t *w = a->w;
      int32x4_t acc = bias;
      for (uint32_t ky = 0; ky < a->kh; ky++)
        for (uint32_t kx = 0; kx < a->kw; kx++, w += 4) {
          const int16x8_t px = vmovl_s8(gs_dup4(x + (size_t)ky * a->dh * a->x_row + (size_t)kx * a->dw * 4));
          acc = vmlal_s16(acc, vget_low_s16(px), vld1_s16(w));
        }
      gs_store_quadn_1((int8_t *)a->y + ((size_t)oy * a->ow + ox) * 4, acc, a->q.scale, &q);
    }
}
