/* y = a * b of two int8 tensors with their own scales, eight elements at once. */
#include "neon.h"

GS_INLINE int8x8_t eight(int8x8_t a, int8x8_t b, const gs_binary_s8_args *k, const gs_rqn *q) {
  const int16x8_t va = vsubq_s16(vmovl_s8(a), vdupq_n_s16((int16_t)k->za)), vb = vsubq_s16(vmovl_s8(b), vdupq_n_s16((int16_t)k->zb));
  const float32x4_t ra = vdupq_n_f32(k->ra);
  return gs_rqn_half(gs_rqn_words(gs_scaledn(vmull_s16(vget_low_s16(va), vget_low_s16(vb)), ra),
                                  gs_scaledn(vmull_s16(vget_high_s16(va), vget_high_s16(vb)), ra), q), q);
}

void gs_s8_mul_8__neon(const gs_binary_s8_args *a) {
  const gs_requant rq = {NULL, a->zo, a->lo, a->hi};
  const gs_rqn q = gs_rqn_make(&rq);
  size_t i = 0;
  for (; i + 8 <= a->n; i += 8) vst1_s8(a->y + i, eight(vld1_s8(a->a + i), vld1_s8(a->b + i), a, &q));
  if (i < a->n) {
    int8_t va[8] = {0}, vb[8] = {0};
    memcpy(va, a->a + i, a->n - i);
    memcpy(vb, a->b + i, a->n - i);
    vst1_s8(va, eight(vld1_s8(va), vld1_s8(vb), a, &q));
    memcpy(a->y + i, va, a->n - i);
  }
}
