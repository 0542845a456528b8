/* What the NEON micro-kernels with SDOT share (aarch64 only). */
#ifndef GS_ARM_NEONDOT_H
#define GS_ARM_NEONDOT_H
#include "neon.h"

#define GS_DOT __attribute__((target("dotprod")))
#define GS_DOT_INLINE static inline __attribute__((always_inline)) GS_DOT

/* acc[r] += x * row r of w, for four rows of four lanes. */
#define GS_DOT_ROWS(acc, x, w)                      \
  do {                                              \
    (acc)[0] = vdotq_laneq_s32((acc)[0], x, w, 0);  \
    (acc)[1] = vdotq_laneq_s32((acc)[1], x, w, 1);  \
    (acc)[2] = vdotq_laneq_s32((acc)[2], x, w, 2);  \
    (acc)[3] = vdotq_laneq_s32((acc)[3], x, w, 3);  \
  } while (0)

/* Four vectors of four pixels of four rows -> sixteen pixels of a quad. */
GS_INLINE void gs_store16(const gs_mm_args *a, uint32_t block, uint32_t pixel, int32x4_t acc[4][4]) {
  const float32x4_t scale = vld1q_f32(a->q.scale + (size_t)block * 4);
  const gs_rqn q = gs_rqn_make(&a->q);
  int8_t *y = (int8_t *)a->y + (size_t)block * a->y_stride + (size_t)pixel * 4;
  GS_UNROLL for (int v = 0; v < 4; v++)
    vst1q_s8(y + 16 * v, gs_quadn(gs_rqn_acc(acc[v][0], vdupq_laneq_f32(scale, 0), &q),
                                  gs_rqn_acc(acc[v][1], vdupq_laneq_f32(scale, 1), &q),
                                  gs_rqn_acc(acc[v][2], vdupq_laneq_f32(scale, 2), &q),
                                  gs_rqn_acc(acc[v][3], vdupq_laneq_f32(scale, 3), &q)));
}

/* acc[v][r] for sixteen pixels, starting from the bias. */
#define GS_DOT_START(acc, bias)                                                                  \
  int32x4_t acc[4][4];                                                                           \
  GS_UNROLL for (int v = 0; v < 4; v++) GS_UNROLL for (int r = 0; r < 4; r++) acc[v][r] = vdupq_n_s32((bias)[r])
#endif
