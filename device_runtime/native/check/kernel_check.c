/* Runs micro-kernels of this build over a table of shapes and compares them with plain sums written here.
 *
 *   kernel_check list          index and name of every kernel, and whether it "runs" on this machine or is "foreign" to it
 *   kernel_check run <index>   exit code 0 when every case agrees; else 1, with the first cases that do not
 *
 * On Linux every operand lies flush against an inaccessible page, once behind it and once before it, so that a read or
 * write outside the contract of kernels.h is a crash. Elsewhere (WASM) guard bytes catch writes. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

/* ---- depthwise ---- */
/* The word that tap (iy, ix) of the plane reads, padding included. */
static uint32_t dw_word(const gs_dw_args *a, int64_t iy, int64_t ix) {
  uint32_t v = a->pad;
  if (iy >= 0 && iy < a->ih && ix >= 0 && ix < a->iw) memcpy(&v, (const uint8_t *)a->x + (size_t)iy * a->x_row + (size_t)ix * 4, 4);
  return v;
}

static void check_dw(uint32_t index, const uint32_t info[GS_TEST_INFO], gs_dw_args a, int wide, int at_end) {
  const gs_dtype t = (gs_dtype)info[2];
  uint32_t ih = (a.oh - 1) * a.sh + (a.kh - 1) * a.dh + 1, iw = (a.ow - 1) * a.sw + (a.kw - 1) * a.dw + 1;
  const int pads = (int)info[7];
  if (pads) { /* some of the window's rows and columns are padding, above and below, left and right; or rows start further down */
    const uint32_t above = below(a.kh), beyond = below(a.kh), before = below(a.kw), behind = below(a.kw);
    a.top = below(4) == 0 ? -(int32_t)below(3) : (int32_t)above;
    a.left = (int32_t)before;
    ih = ih > beyond + (uint32_t)(a.top > 0 ? a.top : 0) ? ih - beyond - (uint32_t)(a.top > 0 ? a.top : 0) : 1;
    if (a.top < 0) ih += (uint32_t)-a.top;
    iw = iw > behind + before ? iw - behind - before : 1;
    a.pad = t == GS_S8 ? below(256) * 0x01010101u : 0;
    a.flip = t == GS_S8 && below(2) ? 0x80808080u : 0;
  }
  a.ih = ih;
  a.iw = iw;
  const uint32_t lanes = t == GS_S8 ? 4 : 1, taps = a.kh * a.kw, opx = a.oh * a.ow;
  a.x_row = (size_t)(iw + below(3)) * 4;
  a.y_px = opx == 1 ? 1 : (opx + 15) / 16 * 16;
  const size_t slack = pads ? 0 : 64;
  const size_t x_bytes = (ih - 1) * a.x_row + (size_t)iw * 4;
  guarded gx = guard_new(x_bytes + slack, at_end, 0), gy = guard_new((size_t)a.y_px * 4, at_end, 0x33);
  guarded gw = guard_new((size_t)taps * (t == GS_S8 ? 8 : 4), at_end, 0), gb = guard_new(lanes * 4, at_end, 0);
  guarded gq = guard_new(16, at_end, 0);
  float *scale = (float *)(void *)gq.at;
  for (size_t i = 0; i < x_bytes + slack; i++) gx.at[i] = (uint8_t)rnd();
  if (t == GS_F32) for (size_t i = 0; i + 4 <= x_bytes + slack; i += 4) {
    float v = real();
    memcpy(gx.at + i, &v, 4);
  }
  for (uint32_t i = 0; i < taps * lanes; i++) {
    if (t == GS_F32) ((float *)(void *)gw.at)[i] = real();
    else ((int16_t *)(void *)gw.at)[i] = (int16_t)(wide ? (int32_t)below(511) - 255 : (int32_t)below(255) - 127);
  }
  if (wide && t == GS_S8) memset(gx.at, 0x80, x_bytes);
  for (uint32_t l = 0; l < lanes; l++) {
    if (t == GS_F32) ((float *)(void *)gb.at)[l] = real();
    else ((int32_t *)(void *)gb.at)[l] = (int32_t)rnd() >> 16;
    scale[l] = (0.5f + 0.5f * fabsf(real())) * 5e-3f;
  }
  a.x = gx.at;
  a.y = gy.at;
  a.w = gw.at;
  a.bias = gb.at;
  a.q.scale = scale;
  a.q.zp = (int32_t)below(256) - 128;
  a.q.lo = below(2) ? -128 : -20;
  a.q.hi = below(2) ? 127 : 30;
  a.lo = below(2) ? -INFINITY : -0.25f;
  a.hi = below(2) ? INFINITY : 0.5f;
  guarded gp = guard_new(info[8], at_end, 0);
  if (info[8]) {
    gs_test_dw_run(index, &a, gp.at);
    a.packed = gp.at;
  }
  gs_test_dw_run(index, &a, NULL);
  int bad = 0;
  for (uint32_t oy = 0; oy < a.oh && !bad; oy++)
    for (uint32_t ox = 0; ox < a.ow && !bad; ox++)
      for (uint32_t l = 0; l < lanes && !bad; l++) {
        double sum = t == GS_S8 ? ((int32_t *)(void *)gb.at)[l] : ((float *)(void *)gb.at)[l], size = fabs(sum);
        for (uint32_t ky = 0; ky < a.kh; ky++)
          for (uint32_t kx = 0; kx < a.kw; kx++) {
            const uint32_t word = dw_word(&a, (int64_t)(oy * a.sh + ky * a.dh) - a.top, (int64_t)(ox * a.sw + kx * a.dw) - a.left);
            const uint32_t tap = (ky * a.kw + kx) * lanes + l;
            float f;
            memcpy(&f, &word, 4);
            const double v = t == GS_S8 ? (double)(int8_t)(word >> 8 * l) * ((int16_t *)(void *)gw.at)[tap]
                                        : (double)f * ((float *)(void *)gw.at)[tap];
            sum += v;
            size += fabs(v);
          }
        const uint8_t *y = gy.at + ((size_t)oy * a.ow + ox) * 4;
        float got;
        memcpy(&got, y, 4);
        double want = sum > a.lo ? sum : a.lo;
        want = want < a.hi ? want : a.hi;
        bad = t == GS_S8 ? (int8_t)(y[l] ^ (a.flip & 0xff)) != gs_requantize((float)(int32_t)sum * scale[l], a.q.zp, a.q.lo, a.q.hi)
                         : !(fabs(got - want) <= 1e-5 * size + 1e-30);
        if (bad)
          FAIL("window %ux%u stride %u,%u dilation %u,%u out %ux%u wide %d end %d: (%u, %u) lane %u", a.kh, a.kw, a.sh, a.sw, a.dh, a.dw,
               a.oh, a.ow, wide, at_end, oy, ox, l);
      }
  cases++;
  guard_free(&gx, "x");
  guard_free(&gy, "y");
  guard_free(&gw, "weights");
  guard_free(&gb, "bias");
  guard_free(&gq, "scale");
  guard_free(&gp, "packed");
}

static void run_dw(uint32_t index, const uint32_t info[GS_TEST_INFO]) {
  static const uint32_t any[][6] = {{3, 3, 1, 1, 1, 1}, {3, 3, 2, 2, 1, 1}, {5, 5, 1, 1, 1, 1}, {5, 5, 2, 2, 1, 1}, {1, 7, 1, 3, 1, 1},
                                    {2, 1, 3, 1, 1, 1}, {3, 3, 1, 1, 2, 2}, {3, 2, 2, 1, 1, 3}, {1, 1, 1, 1, 1, 1}, {10, 8, 2, 2, 1, 1}};
  static const uint32_t sizes[] = {1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 20, 24, 28, 33, 49};
  const uint32_t shapes = info[3] ? 1 : sizeof any / sizeof *any;
  for (uint32_t s = 0; s < shapes; s++)
    for (uint32_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
      for (uint32_t j = 0; j < 3; j++)
        for (int end = 0; end < 2; end++) {
          gs_dw_args a;
          memset(&a, 0, sizeof a);
          a.ow = sizes[i];
          a.oh = j == 0 ? 1 : j == 1 ? 2 : 7;
          a.kh = info[3] ? info[3] : any[s][0];
          a.kw = info[3] ? info[4] : any[s][1];
          a.sh = info[3] ? info[5] : any[s][2];
          a.sw = info[3] ? info[6] : any[s][3];
          a.dh = info[3] ? 1 : any[s][4];
          a.dw = info[3] ? 1 : any[s][5];
          check_dw(index, info, a, !info[8] && below(4) == 0, end); /* kernels that pack take no wide weights */
        }
}

/* ---- element-wise ---- */
static void run_binary(uint32_t index, const uint32_t info[GS_TEST_INFO]) {
  static const size_t sizes[] = {1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 1000};
  for (uint32_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    for (int end = 0; end < 2; end++)
      for (int same = 0; same < 2; same++) { /* same: y is a */
        const size_t n = sizes[i];
        guarded ga = guard_new(n, end, 0), gb = guard_new(n, end, 0), gy = guard_new(n, end, 0x33);
        uint8_t *before = malloc(n);
        if (!before) exit(2);
        for (size_t k = 0; k < n; k++) {
          ga.at[k] = (uint8_t)rnd();
          gb.at[k] = (uint8_t)rnd();
          before[k] = ga.at[k];
        }
        const int mul = info[2] == GS_BIN_MUL;
        gs_binary_s8_args a = {.a = (int8_t *)ga.at, .b = (int8_t *)gb.at, .y = (int8_t *)(same ? ga.at : gy.at), .n = n,
                               .za = (int32_t)below(256) - 128, .zb = (int32_t)below(256) - 128,
                               .zo = (int32_t)below(256) - 128, .lo = i % 3 == 2 ? -7 : -128, .hi = 127};
        a.ra = i % 5 == 4 ? 1e30f : (0.37f + 0.3f * real()) * 0.02f;
        a.shift = i % 7 == 6 ? 1 : i % 7 == 5 ? 30 : 20;
        a.ma = i % 7 == 4 ? 1 << 21 : (int32_t)below(1u << 21);
        a.mb = (int32_t)below((1u << 22) + 1) - (1 << 21);
        a.bias = ((int32_t)rnd() >> 4) + (1 << (a.shift - 1));
        gs_test_binary_run(index, &a);
        for (size_t k = 0; k < n; k++) {
          const int32_t va = (int8_t)before[k], vb = (int8_t)gb.at[k];
          int32_t want;
          if (mul) {
            want = gs_requantize((float)((va - a.za) * (vb - a.zb)) * a.ra, a.zo, a.lo, a.hi);
          } else {
            const int64_t sum = (int64_t)va * a.ma + (int64_t)vb * a.mb + a.bias;
            const int64_t q = (sum >= 0 ? sum >> a.shift : -((-sum + (1ll << a.shift) - 1) >> a.shift)) + a.zo;
            want = (int32_t)(q > a.lo ? q : a.lo);
            want = want < a.hi ? want : a.hi;
          }
          if (a.y[k] != want) {
            FAIL("n %zu element %zu is %d, not %d", n, k, a.y[k], want);
            break;
          }
        }
        cases++;
        free(before);
        guard_free(&ga, "a");
        guard_free(&gb, "b");
        guard_free(&gy, "y");
      }
}

static void run_lut(uint32_t index) {
  uint8_t table[256];
  for (int i = 0; i < 256; i++) table[i] = (uint8_t)rnd();
  guarded gt = guard_copy(table, 256, 256, 1);
  for (size_t n = 1; n < 300; n += n < 140 ? 1 : 37)
    for (int end = 0; end < 2; end++) {
      guarded gx = guard_new(n, end, 0), gy = guard_new(n, end, 0x33);
      for (size_t k = 0; k < n; k++) gx.at[k] = (uint8_t)rnd();
      gs_test_lut_run(index, gx.at, gy.at, n, gt.at);
      for (size_t k = 0; k < n; k++)
        if (gy.at[k] != table[gx.at[k]]) {
          FAIL("n %zu element %zu is %u, not %u", n, k, gy.at[k], table[gx.at[k]]);
          break;
        }
      cases++;
      guard_free(&gx, "x");
      guard_free(&gy, "y");
    }
  guard_free(&gt, "table");
}

int main(int argc, char **argv) {
  uint32_t info[GS_TEST_INFO];
  if (argc == 2 && strcmp(argv[1], "list") == 0) {
    for (uint32_t i = 0; i < gs_test_kernel_count(); i++) {
      gs_test_kernel_info(i, info);
      printf("%u %s %s\n", i, gs_test_kernel_name(i), gs_test_isa_runs((int)info[1]) ? "runs" : "foreign");
    }
    return 0;
  }
  if (argc != 3 || strcmp(argv[1], "run") != 0) {
    fprintf(stderr, "usage: kernel_check list | run <index>\n");
    return 2;
  }
  const uint32_t index = (uint32_t)strtoul(argv[2], NULL, 10);
  if (gs_test_kernel_info(index, info) != GS_OK) {
    fprintf(stderr, "no kernel %u\n", index);
    return 2;
  }
  if (info[0] == 0) run_mm(index, info);
  else if (info[0] == 1) run_dw(index, info);
  else if (info[0] == 2) run_binary(index, info);
  else if (info[0] == 3) run_lut(index);
  else run_loops(index);
  printf("%u cases, %d failures\n", cases, failures);
  return failures ? 1 : 0;
}
