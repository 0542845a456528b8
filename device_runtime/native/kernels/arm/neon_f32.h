/* The end of f32 products with one vector. */
#ifndef GS_ARM_NEON_F32_H
#define GS_ARM_NEON_F32_H
#include "neon.h"

/* Clamps four rows and writes those that exist. */
GS_INLINE void gs_store_rowsn(const gs_mm_args *a, uint32_t row, float32x4_t sum) {
  float out[4];
  vst1q_f32(out, vminq_f32(vmaxq_f32(sum, vdupq_n_f32(a->lo)), vdupq_n_f32(a->hi)));
  const uint32_t left = a->w->rows - row;
  memcpy((float *)a->y + row, out, (left < 4 ? left : 4) * sizeof *out);
}
#endif
