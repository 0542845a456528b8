/* What the NEON micro-kernels with SDOT share (aarch64 only). */
#ifndef GS_ARM_NEONDOT_H
#define GS_ARM_NEONDOT_H
#include "neon.h"

#define GS_DOT __attribute__((target("dotprod")))
#define GS_DOT_INLINE static inline __attribute__((always_inline)) GS_DOT

/* Requantises and writes sixteen pixels of four rows, acc[4*vector + row]. */
GS_DOT_INLINE void gs_store16(const gs_mm_args *a, uint32_t block, uint32_t pixel, const int32x4_t acc[16], const gs_rqn *q, const int relu) {
  const float *scale = a->q.scale + (size_t)block * 4;
  int8x16x4_t rows;
  GS_UNROLL for (int r = 0; r < 4; r++)
    rows.val[r] = gs_rqn_16(acc[r], acc[4 + r], acc[8 + r], acc[12 + r], vdupq_n_f32(scale[r]), q, relu);
  vst4q_s8((int8_t *)a->y + (size_t)block * a->y_stride + (size_t)pixel * 4, rows);
}

/* Defines a micro-kernel as body(a, q, relu) with relu known to the compiler. */
#define GS_DOT_KERNEL(name, body)                 \
  GS_DOT void name(const gs_mm_args *a) {         \
    const gs_rqn q = gs_rqn_make(&a->q);          \
    if (q.relu) body(a, &q, 1);                   \
    else body(a, &q, 0);                          \
  }
#endif
