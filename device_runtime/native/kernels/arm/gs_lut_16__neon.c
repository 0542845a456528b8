/* A table of 256 bytes looked up sixteen elements at a time by tbl and tbx (aarch64). */
#include "neon.h"

#if defined(__aarch64__)
void gs_lut_16__neon(const uint8_t *x, uint8_t *y, size_t n, const uint8_t table[256]) {
  const uint8x16x4_t t0 = vld1q_u8_x4(table), t1 = vld1q_u8_x4(table + 64), t2 = vld1q_u8_x4(table + 128),
                     t3 = vld1q_u8_x4(table + 192);
  const uint8x16_t step = vdupq_n_u8(64);
  size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    uint8x16_t v = vld1q_u8(x + i), out = vqtbl4q_u8(t0, v);
    out = vqtbx4q_u8(out, t1, v = vsubq_u8(v, step));
    out = vqtbx4q_u8(out, t2, v = vsubq_u8(v, step));
    out = vqtbx4q_u8(out, t3, vsubq_u8(v, step));
    vst1q_u8(y + i, out);
  }
  for (; i < n; i++) y[i] = table[x[i]];
}
#endif
