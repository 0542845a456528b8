/* Unstructured sparse f32: every row has its own columns; 32 pixels at a time, then 16. */
#include "neon.h"

GS_INLINE void tile(const gs_mm_args *a, uint32_t row, uint32_t pixel, const int nv) {
  const gs_packed *w = a->w;
  const char *x = (const char *)a->x + (size_t)pixel * 4;
  const float32x4_t lo = vdupq_n_f32(a->lo), hi = vdupq_n_f32(a->hi);
  const uint32_t last = w->start[row + 1];
  float32x4_t acc[8];
  GS_UNROLL for (int v = 0; v < nv; v++) acc[v] = vdupq_n_f32(((const float *)w->bias)[row]);
  for (uint32_t e = w->start[row]; e < last; e++) {
    const float *xe = (const float *)(const void *)(x + w->off[e]);
    const float32x4_t wv = vdupq_n_f32(((const float *)w->val)[e]);
    GS_UNROLL for (int v = 0; v < nv; v++) acc[v] = vfmaq_f32(acc[v], vld1q_f32(xe + 4 * v), wv);
  }
  float *y = (float *)(void *)((char *)a->y + (size_t)row * a->y_stride) + pixel;
  GS_UNROLL for (int v = 0; v < nv; v++) vst1q_f32(y + 4 * v, vminq_f32(vmaxq_f32(acc[v], lo), hi));
}

void gs_f32_mm_1x4_4x32__neon(const gs_mm_args *a) {
  const uint32_t end = a->block1 * 4 < a->w->rows ? a->block1 * 4 : a->w->rows;
  uint32_t p = 0;
  for (; p + 32 <= a->npx; p += 32)
    for (uint32_t r = a->block0 * 4; r < end; r++) tile(a, r, p, 8);
  for (; p < a->npx; p += 16)
    for (uint32_t r = a->block0 * 4; r < end; r++) tile(a, r, p, 4);
}
