/* Unstructured sparse f32: every row has its own columns; up to 80 pixels at a time (armv7: 32). */
#include "a64_mm.h"
#include "neon_f32.h"

#if defined(__aarch64__)
#define UNITS 5
#else
#define UNITS 2
#endif

/* 16 * units pixels of one row. */
GS_INLINE void tile(const gs_mm_args *a, uint32_t row, uint32_t pixel, const int units) {
  const gs_packed *w = a->w;
  const char *x = (const char *)a->x + (size_t)pixel * 4;
  const float32x4_t lo = vdupq_n_f32(a->lo), hi = vdupq_n_f32(a->hi);
  float32x4_t acc[20];
  const float32x4_t bias = vdupq_n_f32(((const float *)w->bias)[row]);
#if defined(__aarch64__)
  float four[4];
  vst1q_f32(four, bias);
  GS_ROW_1X4(acc, float32x4_t, units, four, w, x, w->start[row], w->start[row + 1], "fmla", "4s", "s");
#else
  GS_UNROLL for (int v = 0; v < 4 * units; v++) acc[v] = bias;
  for (uint32_t e = w->start[row], last = w->start[row + 1]; e < last; e++) {
    const float *xe = (const float *)(const void *)(x + w->off[e]);
    const float32x4_t wv = vdupq_n_f32(((const float *)w->val)[e]);
    GS_UNROLL for (int v = 0; v < 4 * units; v++) acc[v] = vfmaq_f32(acc[v], vld1q_f32(xe + 4 * v), wv);
  }
#endif
  float *y = (float *)(void *)((char *)a->y + (size_t)row * a->y_stride) + pixel;
  GS_UNROLL for (int v = 0; v < 4 * units; v++) vst1q_f32(y + 4 * v, vminq_f32(vmaxq_f32(acc[v], lo), hi));
}

void gs_f32_mm_1x4_4x80__neon(const gs_mm_args *a) {
  const uint32_t end = a->block1 * 4 < a->w->rows ? a->block1 * 4 : a->w->rows;
  for (uint32_t p = 0, left = a->npx / 16; left != 0;) {
    const uint32_t units = left < UNITS ? left : UNITS;
    for (uint32_t r = a->block0 * 4; r < end; r++) {
#if defined(__aarch64__)
      if (units == 5) tile(a, r, p, 5);
      else if (units == 4) tile(a, r, p, 4);
      else if (units == 3) tile(a, r, p, 3);
      else
#endif
      if (units == 2) tile(a, r, p, 2);
      else tile(a, r, p, 1);
    }
    p += units * 16;
    left -= units;
  }
}
