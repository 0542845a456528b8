/* Four single int8 columns interleaved on the fly into groups of four lanes. */
#ifndef GS_ARM_NEON_4X1_H
#define GS_ARM_NEON_4X1_H
#include "neon.h"

/* Where four columns lie, and how to take their lanes: of entries `off`, byte lanes off % 4 of their groups. */
typedef struct {
  const int8_t *x[4];
#if defined(__aarch64__)
  uint8x16_t index; /* into 64 bytes, four pixels of every column: byte lane of the column of every byte of the result */
#else
  int32x4_t shift[4];
#endif
} gs_columnsn;

GS_INLINE gs_columnsn gs_columnsn_of(const int8_t *x, const uint32_t *off) {
  gs_columnsn c;
  GS_UNROLL for (int j = 0; j < 4; j++) c.x[j] = x + (off[j] & ~3u);
#if defined(__aarch64__)
  static const uint8_t first[16] = {0, 16, 32, 48, 4, 20, 36, 52, 8, 24, 40, 56, 12, 28, 44, 60};
  const uint16x4_t lanes = vmovn_u32(vandq_u32(vld1q_u32(off), vdupq_n_u32(3)));
  const uint32x2_t bytes = vreinterpret_u32_u8(vmovn_u16(vcombine_u16(lanes, lanes)));
  c.index = vaddq_u8(vld1q_u8(first), vreinterpretq_u8_u32(vdupq_lane_u32(bytes, 0)));
#else
  GS_UNROLL for (int j = 0; j < 4; j++) c.shift[j] = vdupq_n_s32(-8 * (int32_t)(off[j] & 3u));
#endif
  return c;
}

/* The v-th four pixels, four lanes each. */
GS_INLINE int8x16_t gs_gathern(const gs_columnsn *c, const int v) {
#if defined(__aarch64__)
  const int8x16x4_t four = {{vld1q_s8(c->x[0] + 16 * v), vld1q_s8(c->x[1] + 16 * v), vld1q_s8(c->x[2] + 16 * v), vld1q_s8(c->x[3] + 16 * v)}};
  return vqtbl4q_s8(four, c->index);
#else
  uint32x4_t px[4];
  GS_UNROLL for (int j = 0; j < 4; j++) px[j] = vshlq_u32(vreinterpretq_u32_s8(vld1q_s8(c->x[j] + 16 * v)), c->shift[j]);
  return vreinterpretq_s8_u32(vsliq_n_u32(vsliq_n_u32(vsliq_n_u32(px[0], px[1], 8), px[2], 16), px[3], 24));
#endif
}
#endif
