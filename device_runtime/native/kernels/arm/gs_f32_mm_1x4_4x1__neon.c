/* Unstructured sparse f32 times one vector: four entries of a row a step. */
#include "neon.h"

void gs_f32_mm_1x4_4x1__neon(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  const char *x = a->x;
  const float *val = w->val;
  const uint32_t end = a->block1 * 4 < w->rows ? a->block1 * 4 : w->rows;
  for (uint32_t row = a->block0 * 4; row < end; row++) {
    const uint32_t last = w->start[row + 1];
    uint32_t e = w->start[row];
    float sum = ((const float *)w->bias)[row];
    float32x4_t acc = vdupq_n_f32(0);
    for (; e + 4 <= last; e += 4) {
      const uint32_t *off = w->off + e;
      const float xv[4] = {gs_load_f32(x + off[0]), gs_load_f32(x + off[1]), gs_load_f32(x + off[2]), gs_load_f32(x + off[3])};
      acc = vfmaq_f32(acc, vld1q_f32(xv), vld1q_f32(val + e));
    }
    for (; e < last; e++) sum += gs_load_f32(x + w->off[e]) * val[e];
    float32x2_t half = vadd_f32(vget_low_f32(acc), vget_high_f32(acc));
    sum += vget_lane_f32(vpadd_f32(half, half), 0);
    sum = sum > a->lo ? sum : a->lo;
    ((float *)a->y)[row] = sum < a->hi ? sum : a->hi;
  }
}
