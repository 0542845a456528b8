/* The plain loops of every instruction set against the same sums and moves one element at a time. */
#include <math.h>
#include <string.h>

#include "check.h"

/* Words or bytes with random contents between guards. */
static guarded noise(size_t bytes, int at_end) {
  guarded g = guard_new(bytes, at_end, 0);
  for (size_t i = 0; i < bytes; i++) g.at[i] = (uint8_t)rnd();
  return g;
}

static uint32_t word_at(const guarded *g, size_t i) {
  uint32_t v;
  memcpy(&v, g->at + i * 4, 4);
  return v;
}

static void check_gather(const gs_loops *k, size_t n, size_t step, uint32_t planes, int end) {
  const size_t span = (n - 1) * step + 1, x_plane = span + below(5), y_plane = n + below(5);
  const uint32_t flip = below(2) ? 0x80808080u : 0;
  guarded x = noise(((planes - 1) * x_plane + span) * 4, end), y = guard_new(((planes - 1) * y_plane + n) * 4, end, 0x33);
  k->gather((const gs_word *)(void *)x.at, x_plane, planes, n, step, flip, (gs_word *)(void *)y.at, y_plane);
  for (uint32_t p = 0; p < planes; p++)
    for (size_t i = 0; i < n; i++)
      if (word_at(&y, p * y_plane + i) != (word_at(&x, p * x_plane + i * step) ^ flip)) {
        FAIL("gather: n %zu step %zu planes %u plane %u word %zu", n, step, planes, p, i);
        i = n;
      }
  cases++;
  guard_free(&x, "x");
  guard_free(&y, "y");
}

/* Only words whose bit is set may be read: the others lie in a guard, before the first or behind the last. */
static void check_window(const gs_loops *k, size_t n, uint32_t planes, int end) {
  const size_t before = below((uint32_t)n + 1), have = n - before - below((uint32_t)(n - before) + 1);
  const uint32_t pad = rnd(), flip = below(2) ? 0x80808080u : 0;
  uint16_t inside[16] = {0};
  for (size_t i = before; i < before + have; i++) inside[i / 16] |= (uint16_t)((below(4) != 0) << i % 16);
  guarded x = noise((planes - 1) * n * 4 + have * 4, end), y = guard_new(planes * n * 4, end, 0x33);
  k->window((const gs_word *)(void *)x.at - before, n, planes, n, inside, pad, flip, (gs_word *)(void *)y.at, n);
  for (uint32_t p = 0; p < planes; p++)
    for (size_t i = 0; i < n; i++) {
      const int in = inside[i / 16] >> i % 16 & 1;
      const uint32_t want = (in ? word_at(&x, p * n + i - before) : pad) ^ flip;
      if (word_at(&y, p * n + i) != want) {
        FAIL("window: n %zu before %zu have %zu plane %u word %zu", n, before, have, p, i);
        i = n;
      }
    }
  cases++;
  guard_free(&x, "x");
  guard_free(&y, "y");
}

static void check_quantize(const gs_loops *k, size_t n, int end) {
  guarded x = guard_new(n * 4, end, 0), y = guard_new(n, end, 0x33);
  const float scale = 0.01f + 0.01f * fabsf(real());
  const int u8 = below(2) != 0;
  const int32_t lo = u8 ? 0 : -128, hi = lo + 255, zp = lo + (int32_t)below(256);
  static const float odd[] = {0.0f, -0.0f, INFINITY, -INFINITY, 1e30f, -1e30f, 1e-40f};
  for (size_t i = 0; i < n; i++) {
    float v = below(10) ? real() * 3.0f : below(8) == 7 ? NAN : odd[below(7)];
    if (below(10) == 0) v = scale * ((float)below(200) - 100.5f); /* halves */
    memcpy(x.at + i * 4, &v, 4);
  }
  k->quantize((const float *)(void *)x.at, n, scale, zp, lo, hi, y.at);
  for (size_t i = 0; i < n; i++) {
    float v;
    memcpy(&v, x.at + i * 4, 4);
    const uint8_t want = (uint8_t)gs_requantize(v / scale, zp, lo, hi);
    if (y.at[i] != want) {
      FAIL("quantize: n %zu element %zu of %g is %u, not %u", n, i, (double)v, y.at[i], want);
      break;
    }
  }
  cases++;
  guard_free(&x, "x");
  guard_free(&y, "y");
}

static void check_lanes(const gs_loops *k, size_t n, uint32_t lanes, int end) {
  guarded planes[4], y = guard_new(n * 4, end, 0x33);
  const uint8_t *at[4];
  for (uint32_t l = 0; l < 4; l++) {
    planes[l] = noise(n, end);
    at[l] = planes[l < lanes ? l : 0].at;
  }
  k->interleave(at, lanes, n, (gs_word *)(void *)y.at);
  for (size_t i = 0; i < n * 4; i++)
    if (y.at[i] != (i % 4 < lanes ? at[i % 4][i / 4] : 0)) {
      FAIL("interleave: n %zu lanes %u byte %zu", n, lanes, i);
      break;
    }
  const size_t step = lanes + (below(2) ? below(9) : 0);
  guarded x = noise((n - 1) * step + lanes, end);
  k->spread(x.at, n, step, lanes, (gs_word *)(void *)y.at);
  for (size_t i = 0; i < n * 4; i++)
    if (y.at[i] != (i % 4 < lanes ? x.at[i / 4 * step + i % 4] : 0)) {
      FAIL("spread: n %zu step %zu lanes %u byte %zu", n, step, lanes, i);
      break;
    }
  cases += 2;
  for (uint32_t l = 0; l < 4; l++) guard_free(&planes[l], "plane");
  guard_free(&x, "x");
  guard_free(&y, "y");
}

static void check_close_up(const gs_loops *k, uint32_t taps, uint32_t lanes, size_t n, int end) {
  const size_t plane = n + below(4);
  const uint32_t words = (taps * lanes + 3) / 4;
  guarded x = noise(((taps - 1) * plane + n) * 4, end), y = guard_new(((words - 1) * plane + n) * 4, end, 0x33);
  k->close_up((const gs_word *)(void *)x.at, taps, lanes, n, plane, (gs_word *)(void *)y.at);
  for (size_t i = 0; i < n; i++)
    for (uint32_t b = 0; b < words * 4; b++) {
      const uint8_t want = b < taps * lanes ? x.at[((b / lanes) * plane + i) * 4 + b % lanes] : 0;
      if (y.at[((b / 4) * plane + i) * 4 + b % 4] != want) {
        FAIL("close_up: taps %u lanes %u n %zu pixel %zu byte %u", taps, lanes, n, i, b);
        i = n - 1;
        break;
      }
    }
  cases++;
  guard_free(&x, "x");
  guard_free(&y, "y");
}

static void check_folds(const gs_loops *k, size_t n, int end) {
  guarded x = noise(n * 4, end), y = noise(n * 4, end), f = guard_new(n * 4, end, 0), g = guard_new(n * 4, end, 0);
  guarded before = guard_copy(y.at, n * 4, n * 4, end), held = guard_new(n * 4, end, 0);
  double sum = 0, size = 0;
  int32_t lanes[4] = {1, -2, 3, 1 << 20}, want[4];
  memcpy(want, lanes, sizeof want);
  for (size_t i = 0; i < n * 4; i++) want[i % 4] += (int8_t)x.at[i];
  for (size_t i = 0; i < n; i++) {
    float v = real(), w = real();
    memcpy(f.at + i * 4, &v, 4);
    memcpy(g.at + i * 4, &w, 4);
    memcpy(held.at + i * 4, &w, 4);
    sum += v;
    size += fabs(v);
  }
  k->max_s8((const int8_t *)x.at, n, (int8_t *)y.at);
  k->max_f32((const float *)(void *)f.at, n, (float *)(void *)g.at);
  float total = 0.5f;
  k->sum_s8((const int8_t *)x.at, n, lanes);
  k->sum_f32((const float *)(void *)f.at, n, &total);
  for (size_t i = 0; i < n * 4; i++) {
    const int8_t a = (int8_t)x.at[i], b = (int8_t)before.at[i];
    if ((int8_t)y.at[i] != (a > b ? a : b)) {
      FAIL("max_s8: n %zu byte %zu", n, i);
      break;
    }
  }
  for (size_t i = 0; i < n; i++) {
    float a, b, c;
    memcpy(&a, f.at + i * 4, 4);
    memcpy(&b, held.at + i * 4, 4);
    memcpy(&c, g.at + i * 4, 4);
    if (c != (a > b ? a : b)) {
      FAIL("max_f32: n %zu element %zu", n, i);
      break;
    }
  }
  if (memcmp(lanes, want, sizeof want)) FAIL("sum_s8: n %zu", n);
  if (!(fabs(total - (sum + 0.5)) <= 1e-5 * (size + 0.5))) FAIL("sum_f32: n %zu is %g, not %g", n, (double)total, sum + 0.5);
  cases += 4;
  guard_free(&x, "x");
  guard_free(&y, "y");
  guard_free(&f, "x");
  guard_free(&g, "y");
  guard_free(&before, "copy");
  guard_free(&held, "copy");
}

void run_loops(uint32_t index) {
  const gs_loops *k = gs_test_loops(index);
  static const size_t sizes[] = {1, 2, 3, 7, 15, 16, 17, 31, 33, 63, 64, 65, 100, 130};
  for (uint32_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
    for (int end = 0; end < 2; end++) {
      const size_t n = sizes[s];
      for (size_t step = 1; step < 5; step++) check_gather(k, n, step, 1 + below(4), end);
      if (k->window) check_window(k, 16 * (1 + below(8)), 1 + below(3), end);
      check_quantize(k, n, end);
      for (uint32_t lanes = 1; lanes <= 4; lanes++) check_lanes(k, n, lanes, end);
      for (uint32_t lanes = 1; lanes <= 3; lanes++)
        for (uint32_t taps = 2; taps <= 9; taps++) check_close_up(k, taps, lanes, n, end);
      check_folds(k, n, end);
    }
}
