/* Sparse int8 in 1x4 blocks by sdot: every row has its own groups; 64 pixels at a time, then 16. */
#include "neondot.h"

GS_DOT_INLINE void tile(const gs_mm_args *a, uint32_t block, uint32_t pixel, const int nv) {
  const gs_packed *w = a->w;
  const int8_t *x = (const int8_t *)a->x + (size_t)pixel * 4;
  const gs_rqn q = gs_rqn_make(&a->q);
  int32x4_t out[4][16];
  for (uint32_t r = 0; r < 4; r++) {
    const size_t row = (size_t)block * 4 + r;
    const uint32_t last = w->start[row + 1];
    uint32_t e = w->start[row];
    const int8_t *val = (const int8_t *)w->val + (size_t)e * 4;
    int32x4_t acc[16];
    GS_UNROLL for (int v = 0; v < nv; v++) acc[v] = vdupq_n_s32(((const int32_t *)w->bias)[row]);
    for (; e < last; e++, val += 4) {
      const int8_t *xe = x + w->off[e];
      const int8x8_t half = gs_dup4(val);
      const int8x16_t wv = vcombine_s8(half, half);
      GS_UNROLL for (int v = 0; v < nv; v++) acc[v] = vdotq_s32(acc[v], vld1q_s8(xe + 16 * v), wv);
    }
    const float32x4_t scale = vdupq_n_f32(a->q.scale[row]);
    GS_UNROLL for (int v = 0; v < nv; v++) out[r][v] = gs_rqn_acc(acc[v], scale, &q);
  }
  int8_t *y = (int8_t *)a->y + (size_t)block * a->y_stride + (size_t)pixel * 4;
  GS_UNROLL for (int v = 0; v < nv; v++) vst1q_s8(y + 16 * v, gs_quadn(out[0][v], out[1][v], out[2][v], out[3][v]));
}

GS_DOT void gs_s8_mm_1x4_4x64__neondot(const gs_mm_args *a) {
  uint32_t p = 0;
  for (; p + 64 <= a->npx; p += 64)
    for (uint32_t b = a->block0; b < a->block1; b++) tile(a, b, p, 16);
  for (; p < a->npx; p += 16)
    for (uint32_t b = a->block0; b < a->block1; b++) tile(a, b, p, 4);
}
