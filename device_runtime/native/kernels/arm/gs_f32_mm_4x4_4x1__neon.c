/* Sparse f32 in 4x1 blocks times one vector: two columns of four rows in flight. */
#include "neon_f32.h"

void gs_f32_mm_4x4_4x1__neon(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  const char *x = a->x;
  for (uint32_t b = a->block0; b < a->block1; b++) {
    const uint32_t last = w->start[b + 1];
    uint32_t e = w->start[b];
    const float *val = (const float *)w->val + (size_t)e * 4;
    float32x4_t acc = vld1q_f32((const float *)w->bias + (size_t)b * 4), odd = vdupq_n_f32(0);
    for (; e + 2 <= last; e += 2, val += 8) {
      acc = vfmaq_f32(acc, vld1q_f32(val), vdupq_n_f32(gs_load_f32(x + w->off[e])));
      odd = vfmaq_f32(odd, vld1q_f32(val + 4), vdupq_n_f32(gs_load_f32(x + w->off[e + 1])));
    }
    if (e < last) acc = vfmaq_f32(acc, vld1q_f32(val), vdupq_n_f32(gs_load_f32(x + w->off[e])));
    gs_store_rowsn(a, b * 4, vaddq_f32(acc, odd));
  }
}
