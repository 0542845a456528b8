/* Sparse int8 in 1x4 blocks by sdot: every row has its own groups; up to 80 pixels at a time. */
#include "a64_mm.h"
#include "neondot.h"

/* 16 * units pixels of four rows. The rows' bytes meet in memory: their accumulators fill the registers one row at a time. */
GS_DOT_INLINE void tile(const gs_mm_args *a, uint32_t block, uint32_t pixel, const int units, const gs_rqn *q,
                        const int relu) {
  const gs_packed packed = *a->w, *const w = &packed; /* a copy: stores of bytes may alias all else */
  const float *const scales = a->q.scale + (size_t)block * 4;
  const int8_t *x = (const int8_t *)a->x + (size_t)pixel * 4;
  int8_t rows[4][80];
  int32_t biases[16]; /* each four times */
  GS_UNROLL for (int r = 0; r < 4; r++) vst1q_s32(biases + 4 * r, vdupq_n_s32(((const int32_t *)w->bias)[(size_t)block * 4 + (size_t)r]));
  for (uint32_t r = 0; r < 4; r++) {
    const size_t row = (size_t)block * 4 + r;
    int32x4_t acc[20];
    GS_ROW_1X4(acc, int32x4_t, units, biases + 4 * r, w, x, w->start[row], w->start[row + 1], "sdot", "16b", "4b");
    const float32x4_t scale = vdupq_n_f32(scales[r]);
    GS_UNROLL for (int u = 0; u < units; u++)
      vst1q_s8(rows[r] + 16 * u, gs_rqn_16(acc[4 * u], acc[4 * u + 1], acc[4 * u + 2], acc[4 * u + 3], scale, q, relu));
  }
  int8_t *y = (int8_t *)a->y + (size_t)block * a->y_stride + (size_t)pixel * 4;
  GS_UNROLL for (int u = 0; u < units; u++) {
    int8x16x4_t quad;
    GS_UNROLL for (int r = 0; r < 4; r++) quad.val[r] = vld1q_s8(rows[r] + 16 * u);
    vst4q_s8(y + 64 * u, quad);
  }
}

GS_DOT_INLINE void body(const gs_mm_args *a, const gs_rqn *q, const int relu) {
  for (uint32_t p = 0, left = a->npx / 16; left != 0;) {
    const uint32_t units = left < 5 ? left : 5;
    for (uint32_t b = a->block0; b < a->block1; b++) {
      if (units == 5) tile(a, b, p, 5, q, relu);
      else if (units == 4) tile(a, b, p, 4, q, relu);
      else if (units == 3) tile(a, b, p, 3, q, relu);
      else if (units == 2) tile(a, b, p, 2, q, relu);
      else tile(a, b, p, 1, q, relu);
    }
    p += units * 16;
    left -= units;
  }
}

GS_DOT_KERNEL(gs_s8_mm_1x4_4x80__neondot, body)
