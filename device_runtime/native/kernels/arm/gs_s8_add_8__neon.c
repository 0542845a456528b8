/* y = a +- b of two int8 tensors with their own scales, in fixed point, eight elements at once. */
#include "neon.h"

GS_INLINE int16x4_t four(int16x4_t a, int16x4_t b, const gs_binary_s8_args *k) {
  int32x4_t q = vmlaq_n_s32(vdupq_n_s32(k->bias), vmovl_s16(a), k->ma);
  q = vshlq_s32(vmlaq_n_s32(q, vmovl_s16(b), k->mb), vdupq_n_s32(-k->shift));
  q = vaddq_s32(q, vdupq_n_s32(k->zo));
  return vmovn_s32(vminq_s32(vmaxq_s32(q, vdupq_n_s32(k->lo)), vdupq_n_s32(k->hi)));
}

GS_INLINE int8x8_t eight(int8x8_t a, int8x8_t b, const gs_binary_s8_args *k) {
  const int16x8_t va = vmovl_s8(a), vb = vmovl_s8(b);
  return vmovn_s16(vcombine_s16(four(vget_low_s16(va), vget_low_s16(vb), k), four(vget_high_s16(va), vget_high_s16(vb), k)));
}

void gs_s8_add_8__neon(const gs_binary_s8_args *a) {
  size_t i = 0;
  for (; i + 8 <= a->n; i += 8) vst1_s8(a->y + i, eight(vld1_s8(a->a + i), vld1_s8(a->b + i), a));
  if (i < a->n) {
    int8_t va[8] = {0}, vb[8] = {0};
    memcpy(va, a->a + i, a->n - i);
    memcpy(vb, a->b + i, a->n - i);
    vst1_s8(va, eight(vld1_s8(va), vld1_s8(vb), a));
    memcpy(a->y + i, va, a->n - i);
  }
}
