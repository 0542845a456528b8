/* The plain loops of gs_loops (src/kernels.h), written once. A file of every instruction set includes this, so that its compiler
 * flags decide which vectors they become: GS_LOOPS(gs_loops__avx2, GS_ISA_AVX2, NULL) defines the object. */
#ifndef GS_LOOPS_H
#define GS_LOOPS_H
#include <string.h>

#include "../src/core.h"

static inline void gather_plane(const gs_word *restrict x, size_t n, size_t step, gs_word flip, gs_word *restrict y) {
  if (step == 1) {
    for (size_t i = 0; i < n; i++) y[i] = x[i] ^ flip;
  } else if (step == 2) { /* a stride that the compiler knows becomes shuffles */
    for (size_t i = 0; i < n; i++) y[i] = x[2 * i] ^ flip;
  } else {
    for (size_t i = 0; i < n; i++) y[i] = x[i * step] ^ flip;
  }
}

static void loop_gather(const gs_word *x, size_t x_plane, uint32_t planes, size_t n, size_t step, gs_word flip, gs_word *y,
                        size_t y_plane) {
  for (uint32_t p = 0; p < planes; p++, x += x_plane, y += y_plane) gather_plane(x, n, step, flip, y);
}

static void loop_quantize(const float *restrict x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi, uint8_t *restrict y) {
  for (size_t i = 0; i < n; i++) y[i] = (uint8_t)gs_requantize(x[i] / scale, zp, lo, hi);
}

static void loop_interleave(const uint8_t *const plane[4], uint32_t n_planes, size_t n, gs_word *restrict y) {
  const uint8_t *restrict a = plane[0], *restrict b = plane[1], *restrict c = plane[2], *restrict d = plane[3];
  if (n_planes == 4) {
    for (size_t i = 0; i < n; i++) y[i] = a[i] | (uint32_t)b[i] << 8 | (uint32_t)c[i] << 16 | (uint32_t)d[i] << 24;
  } else if (n_planes == 3) {
    for (size_t i = 0; i < n; i++) y[i] = a[i] | (uint32_t)b[i] << 8 | (uint32_t)c[i] << 16;
  } else if (n_planes == 2) {
    for (size_t i = 0; i < n; i++) y[i] = a[i] | (uint32_t)b[i] << 8;
  } else {
    for (size_t i = 0; i < n; i++) y[i] = a[i];
  }
}

static void loop_spread(const uint8_t *restrict x, size_t n, size_t step, uint32_t lanes, gs_word *restrict y) {
  if (lanes == 4) {
    for (size_t i = 0; i < n; i++) memcpy(&y[i], x + i * step, 4);
  } else if (lanes == 3 && step == 3) {
    for (size_t i = 0; i < n; i++) y[i] = x[i * 3] | (uint32_t)x[i * 3 + 1] << 8 | (uint32_t)x[i * 3 + 2] << 16;
  } else {
    for (size_t i = 0; i < n; i++) {
      const uint8_t *from = x + i * step;
      y[i] = from[0] | (lanes > 1 ? (uint32_t)from[1] << 8 : 0) | (lanes > 2 ? (uint32_t)from[2] << 16 : 0);
    }
  }
}

/* Four taps: of three lanes they are three words, of two lanes two, of one lane one. */
static inline void close_four(const gs_word *restrict x, uint32_t lanes, size_t n, size_t plane, gs_word *restrict y) {
  const gs_word *restrict a = x, *restrict b = x + plane, *restrict c = x + 2 * plane, *restrict d = x + 3 * plane;
  gs_word *restrict u = y, *restrict v = y + plane, *restrict w = y + 2 * plane;
  if (lanes == 3) {
    for (size_t i = 0; i < n; i++) {
      u[i] = (a[i] & 0xFFFFFFu) | b[i] << 24;
      v[i] = (b[i] >> 8 & 0xFFFFu) | c[i] << 16;
      w[i] = (c[i] >> 16 & 0xFFu) | d[i] << 8;
    }
  } else if (lanes == 2) {
    for (size_t i = 0; i < n; i++) {
      u[i] = (a[i] & 0xFFFFu) | b[i] << 16;
      v[i] = (c[i] & 0xFFFFu) | d[i] << 16;
    }
  } else {
    for (size_t i = 0; i < n; i++) u[i] = (a[i] & 0xFFu) | (b[i] & 0xFFu) << 8 | (c[i] & 0xFFu) << 16 | d[i] << 24;
  }
}

/* The last one to three taps, one lane of y at a time. */
static inline void close_rest(const gs_word *restrict x, uint32_t taps, uint32_t lanes, size_t n, size_t plane, gs_word *restrict y) {
  for (uint32_t k = 0; k < taps; k++)
    for (uint32_t l = 0; l < lanes; l++) {
      uint32_t at = k * lanes + l, from = 8 * l, to = at % 4 * 8;
      const gs_word *restrict xk = x + k * plane;
      gs_word *restrict out = y + at / 4 * plane;
      if (to == 0)
        for (size_t i = 0; i < n; i++) out[i] = xk[i] >> from & 0xFFu;
      else
        for (size_t i = 0; i < n; i++) out[i] |= (xk[i] >> from & 0xFFu) << to;
    }
}

static void loop_close_up(const gs_word *x, uint32_t taps, uint32_t lanes, size_t n, size_t plane, gs_word *y) {
  for (; taps >= 4; taps -= 4, x += 4 * plane, y += lanes * plane) close_four(x, lanes, n, plane, y);
  close_rest(x, taps, lanes, n, plane, y);
}

static void loop_max_s8(const int8_t *restrict x, size_t n, int8_t *restrict y) {
  for (size_t i = 0; i < n * 4; i++) y[i] = x[i] > y[i] ? x[i] : y[i];
}

static void loop_max_f32(const float *restrict x, size_t n, float *restrict y) {
  for (size_t i = 0; i < n; i++) y[i] = x[i] > y[i] ? x[i] : y[i];
}

static void loop_sum_s8(const int8_t *restrict x, size_t n, int32_t y[4]) {
  int32_t part[64] = {0}; /* sixteen pixels side by side, so that the inner loop is one of whole vectors */
  size_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (size_t l = 0; l < 64; l++) part[l] += x[i * 4 + l];
  for (size_t half = 32; half >= 4; half /= 2)
    for (size_t l = 0; l < half; l++) part[l] += part[l + half];
  for (; i < n; i++)
    for (size_t l = 0; l < 4; l++) part[l] += x[i * 4 + l];
  for (size_t l = 0; l < 4; l++) y[l] += part[l];
}

static void loop_sum_f32(const float *restrict x, size_t n, float *restrict y) {
  float part[16] = {0}, sum = 0.0f; /* in an order of its own, the same on every instruction set */
  size_t i = 0;
  for (; i + 16 <= n; i += 16)
    for (size_t l = 0; l < 16; l++) part[l] += x[i + l];
  for (; i < n; i++) sum += x[i];
  for (size_t l = 0; l < 16; l++) sum += part[l];
  *y += sum;
}

#define GS_LOOPS(object, isa_, window_)                                                                                       \
  const gs_loops object = {.name = #object, .isa = isa_, .gather = loop_gather, .window = window_, .quantize = loop_quantize, \
                           .interleave = loop_interleave, .spread = loop_spread, .close_up = loop_close_up, .max_s8 = loop_max_s8,                  \
                           .max_f32 = loop_max_f32, .sum_s8 = loop_sum_s8, .sum_f32 = loop_sum_f32};
#endif
