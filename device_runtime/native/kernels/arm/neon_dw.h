/* Depthwise int8 3x3: pixels widened to 16 bits, smlal with 16-bit weights, four output pixels at a time. */
#ifndef GS_ARM_NEON_DW_H
#define GS_ARM_NEON_DW_H
#include "neon.h"

GS_INLINE void gs_s8_dw_3x3n(const gs_dw_args *a, const int stride) {
  const int16_t *w = a->w;
  const gs_rqn q = gs_rqn_make(&a->q);
  const float32x4_t scale = vld1q_f32(a->q.scale);
  const int32x4_t bias = vld1q_s32(a->bias);
  int16x4_t wv[9];
  GS_UNROLL for (int t = 0; t < 9; t++) wv[t] = vld1_s16(w + 4 * t);
  for (uint32_t oy = 0; oy < a->oh; oy++)
    for (uint32_t ox = 0; ox < a->ow; ox += 4) {
      const int8_t *x = (const int8_t *)a->x + (size_t)oy * (size_t)stride * a->x_row + (size_t)ox * 4 * (size_t)stride;
      int32x4_t acc[4] = {bias, bias, bias, bias};
      GS_UNROLL for (int ky = 0; ky < 3; ky++) {
        const int8_t *row = x + (size_t)ky * a->x_row;
        int16x4_t px[10]; /* neighbouring pixels */
        GS_UNROLL for (int i = 0; i < (stride == 1 ? 3 : 5); i++) {
          const int16x8_t two = vmovl_s8(vld1_s8(row + 8 * i));
          px[2 * i] = vget_low_s16(two);
          px[2 * i + 1] = vget_high_s16(two);
        }
        GS_UNROLL for (int kx = 0; kx < 3; kx++)
          GS_UNROLL for (int i = 0; i < 4; i++) acc[i] = vmlal_s16(acc[i], px[stride * i + kx], wv[3 * ky + kx]);
      }
      gs_store_pixelsn((int8_t *)a->y + ((size_t)oy * a->ow + ox) * 4, gs_rqn_16(acc[0], acc[1], acc[2], acc[3], scale, &q), a->ow - ox);
    }
}
#endif
