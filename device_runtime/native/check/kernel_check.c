/* Runs micro-kernels of this build over a table of shapes and compares them with plain sums written here.
 *
 *   kernel_check list          index, name and instruction set of every kernel; then the machine's best instruction set
 *   kernel_check run <index>   exit code 0 when every case agrees; else 1, with the first cases that do not
 *
 * On Linux every operand lies flush against an inaccessible page, once behind it and once before it, so that a read or
 * write outside the contract of kernels.h is a crash. Elsewhere (WASM) guard bytes catch writes. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

#include "core.h"
#include "test_access.h"

static int failures;
static unsigned cases;

#define FAIL(...)                                     \
  do {                                                \
    if (failures++ < 10) {                            \
      printf(__VA_ARGS__);                            \
      printf("\n");                                   \
    }                                                 \
  } while (0)

static uint64_t state = 88172645463325252ull;
static uint32_t rnd(void) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (uint32_t)(state >> 16);
}
static uint32_t below(uint32_t n) { return rnd() % n; }
static float real(void) { return (float)((int32_t)rnd() / 2147483648.0); }

/* Memory between guards. at_end: the last byte touches the guard behind, else the first one touches the guard before. */
typedef struct {
  uint8_t *base, *at;
  size_t total, size;
} guarded;

#define GUARD_BYTES 256u
static guarded guard_new(size_t size, int at_end, int fill) {
  guarded g = {NULL, NULL, 0, size};
#if defined(__linux__)
  size_t page = (size_t)sysconf(_SC_PAGESIZE), body = (size + page - 1) / page * page;
  if (body == 0) body = page;
  g.total = body + 2 * page;
  g.base = mmap(NULL, g.total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (g.base == MAP_FAILED) exit(2);
  if (mprotect(g.base, page, PROT_NONE) || mprotect(g.base + page + body, page, PROT_NONE)) exit(2);
  g.at = at_end ? g.base + page + body - size : g.base + page;
  memset(g.base + page, fill, body);
#else
  (void)at_end;
  g.total = size + 2 * GUARD_BYTES;
  g.base = malloc(g.total);
  if (g.base == NULL) exit(2);
  memset(g.base, 0x5a, g.total);
  g.at = g.base + GUARD_BYTES;
  memset(g.at, fill, size);
#endif
  return g;
}
static guarded guard_copy(const void *from, size_t used, size_t size, int at_end) {
  guarded g = guard_new(size, at_end, 0);
  if (used) memcpy(g.at, from, used);
  return g;
}
static void guard_free(guarded *g, const char *what) {
#if defined(__linux__)
  (void)what;
  munmap(g->base, g->total);
#else
  for (size_t i = 0; i < GUARD_BYTES; i++)
    if (g->base[i] != 0x5a || g->at[g->size + i] != 0x5a) {
      FAIL("%s: written outside", what);
      break;
    }
  free(g->base);
#endif
}

/* ---- mm ---- */
typedef struct {
  uint32_t rows, k, npx, density, extreme; /* density in percent; extreme: 1 largest values, 2 tiny scale, 3 huge scale */
  uint32_t extra;                          /* stride beyond npx pixels, in steps of 16 pixels */
} mm_case;

typedef struct {
  double *w;                    /* rows x k */
  gs_matrix m;
  uint32_t *start, *col;
  void *values;
} weights;

static double draw_weight(gs_dtype t, uint32_t extreme) {
  if (t == GS_F32) return real();
  if (extreme == 1) return rnd() & 1 ? 127 : -127;
  return (double)below(255) - 127;
}

static weights make_weights(const uint32_t info[8], const mm_case *c) {
  weights s;
  const gs_dtype t = (gs_dtype)info[2];
  const gs_form form = (gs_form)info[3];
  const int dense = form == GS_FORM_DENSE;
  const uint32_t br = dense ? 1 : form == GS_FORM_1X4 ? 1 : 4;
  const uint32_t bc = t == GS_S8 && (form == GS_FORM_1X4 || form == GS_FORM_4X4 || dense) ? 4 : 1;
  const uint32_t block_rows = (c->rows + br - 1) / br, block_cols = c->k / bc;
  const size_t item = t == GS_S8 ? 1 : 4;
  s.w = calloc((size_t)c->rows * c->k, sizeof *s.w);
  s.start = calloc(block_rows + 1, 4);
  s.col = calloc((size_t)block_rows * block_cols * 2 + 1, 4);
  s.values = calloc((size_t)block_rows * br * block_cols * bc * 2 + 1, item);
  if (!s.w || !s.start || !s.col || !s.values) exit(2);
  uint32_t n = 0;
  size_t at = 0;
  for (uint32_t b = 0; b < block_rows; b++) {
    s.start[b] = n;
    const int empty = !dense && c->density < 100 && below(8) == 0;
    for (uint32_t j = 0; j < block_cols; j++) {
      if (!dense && (empty || below(100) >= c->density)) continue;
      const uint32_t repeat = !dense && below(16) == 0 ? 2 : 1; /* equal columns add up */
      for (uint32_t again = 0; again < repeat; again++) {
        const int zero = below(20) == 0; /* a stored block of zeros */
        s.col[n++] = j;
        for (uint32_t r = 0; r < br; r++)
          for (uint32_t l = 0; l < bc; l++, at++) {
            const uint32_t row = b * br + r;
            double v = zero || row >= c->rows ? 0 : draw_weight(t, c->extreme);
            if (row < c->rows) s.w[(size_t)row * c->k + j * bc + l] += v;
            if (t == GS_S8) ((int8_t *)s.values)[at] = (int8_t)v;
            else ((float *)s.values)[at] = (float)v;
          }
      }
    }
  }
  s.start[block_rows] = n;
  const gs_matrix m = {t, c->rows, c->k, dense ? 0 : br, dense ? 0 : bc, dense ? NULL : s.start, dense ? NULL : s.col, s.values};
  s.m = m;
  return s;
}

static size_t value_bytes(const uint32_t info[8], const gs_packed *p) {
  const size_t item = info[2] == GS_F32 ? 4 : info[7] ? 2 : 1, lanes = info[2] == GS_F32 ? 1 : 4;
  if (info[3] == GS_FORM_DENSE) return (size_t)p->row_blocks * p->groups * info[4] * lanes * item;
  if (info[3] == GS_FORM_1X4) return p->entries * lanes * item;
  if (info[3] == GS_FORM_4X4) return p->entries * lanes * 4 * item;
  return p->entries * 4 * item;
}

static void check_mm(uint32_t index, const uint32_t info[8], const mm_case *c, int at_end) {
  const gs_dtype t = (gs_dtype)info[2];
  const uint32_t lanes = t == GS_S8 ? 4 : 1, groups = c->k / lanes, y_groups = t == GS_S8 ? (c->rows + 3) / 4 : c->rows;
  const size_t stride = c->npx == 1 ? 4 : (size_t)(c->npx + 16 * c->extra) * 4;
  weights s = make_weights(info, c);
  const uint32_t padded = (c->rows + info[4] - 1) / info[4] * info[4];
  void *bias = calloc(c->rows, 4);
  float *scale = calloc(c->rows, 4);
  if (!bias || !scale) exit(2);
  for (uint32_t r = 0; r < c->rows; r++) {
    if (t == GS_S8) ((int32_t *)bias)[r] = c->extreme == 1 ? (rnd() & 1 ? 2000000000 : -2000000000) / 2 : (int32_t)rnd() >> 14;
    else ((float *)bias)[r] = real();
    scale[r] = c->extreme == 2 ? 1e-30f : c->extreme == 3 ? 1e20f : (0.5f + 0.5f * fabsf(real())) * 2e-3f;
  }
  gs_packed p;
  if (gs_test_mm_pack(index, &s.m, bias, scale, stride, &p) != GS_OK) {
    FAIL("pack refused rows %u k %u", c->rows, c->k);
    return;
  }
  /* Packed parts against guards; int8 weights at an odd address when they lie at the start. */
  const size_t shift = !at_end && t == GS_S8 && !info[7] ? 1 : 0;
  const size_t lists = info[3] == GS_FORM_1X4 ? padded : padded / 4, vb = value_bytes(info, &p);
  guarded gv = guard_new(vb + GS_WSLACK + shift, at_end, 0);
  if (vb) memcpy(gv.at + shift, p.val, vb);
  guarded go = guard_copy(p.off, p.entries * 4, p.entries * 4, at_end);
  guarded gs = guard_copy(p.start, p.start ? (lists + 1) * 4 : 0, p.start ? (lists + 1) * 4 : 0, at_end);
  guarded gb = guard_copy(p.bias, (size_t)padded * 4, (size_t)padded * 4, at_end);
  guarded gq = guard_copy(p.scale, p.scale ? (size_t)padded * 4 : 0, p.scale ? (size_t)padded * 4 : 0, at_end);
  gs_packed moved = p;
  moved.val = gv.at + shift;
  moved.off = p.off ? (const uint32_t *)(void *)go.at : NULL;
  moved.start = p.start ? (const uint32_t *)(void *)gs.at : NULL;
  moved.bias = gb.at;
  moved.scale = p.scale ? (float *)(void *)gq.at : NULL;

  const size_t x_bytes = (size_t)(groups - 1) * stride + (size_t)c->npx * 4, y_bytes = (size_t)(y_groups - 1) * stride + (size_t)c->npx * 4;
  guarded gx = guard_new(x_bytes, at_end, 0), gy = guard_new(y_bytes, at_end, 0x33);
  uint8_t *plain = malloc(x_bytes);
  if (!plain) exit(2);
  for (size_t i = 0; i < x_bytes; i++) plain[i] = c->extreme == 1 ? (rnd() & 1 ? 0x80 : 0x7f) : (uint8_t)rnd();
  if (t == GS_F32)
    for (size_t i = 0; i + 4 <= x_bytes; i += 4) {
      float v = real();
      memcpy(plain + i, &v, 4);
    }
  for (size_t i = 0; i < x_bytes; i++) gx.at[i] = plain[i] ^ (info[6] ? 0x80 : 0);

  gs_mm_args a;
  memset(&a, 0, sizeof a);
  a.x = gx.at;
  a.x_stride = stride;
  a.y = gy.at;
  a.y_stride = stride;
  a.npx = c->npx;
  a.w = &moved;
  a.q.scale = moved.scale;
  a.q.zp = (int32_t)below(256) - 128;
  a.q.lo = below(2) ? -128 : -20;
  a.q.hi = below(2) ? 127 : 30;
  a.lo = below(2) ? -INFINITY : -0.25f;
  a.hi = below(2) ? INFINITY : 0.5f;
  /* The blocks in two calls, so that block0 > 0 is tried too. */
  const uint32_t half = p.row_blocks / 2;
  a.block0 = half;
  a.block1 = p.row_blocks;
  gs_test_mm_run(index, &a, 1, 0);
  a.block0 = 0;
  a.block1 = half;
  if (half) gs_test_mm_run(index, &a, 1, 0);

  int bad = 0;
  for (uint32_t r = 0; r < y_groups * lanes && !bad; r++)
    for (uint32_t px = 0; px < c->npx && !bad; px++) {
      if (r >= c->rows) continue; /* lanes of padding hold anything */
      double sum = t == GS_S8 ? ((int32_t *)bias)[r] : ((float *)bias)[r], size = fabs(sum);
      for (uint32_t k = 0; k < c->k; k++) {
        const size_t at = (size_t)(k / lanes) * stride + (size_t)px * 4 + (t == GS_S8 ? k % 4 : 0);
        float f = 0;
        if (t == GS_F32) memcpy(&f, plain + at, 4);
        const double v = (t == GS_S8 ? (double)(int8_t)plain[at] : (double)f) * s.w[(size_t)r * c->k + k];
        sum += v;
        size += fabs(v);
      }
      if (t == GS_S8) {
        const int32_t want = gs_requantize((float)(int32_t)sum * scale[r], a.q.zp, a.q.lo, a.q.hi);
        const int32_t got = ((int8_t *)gy.at)[(size_t)(r / 4) * stride + (size_t)px * 4 + r % 4];
        if (want != got) {
          FAIL("rows %u k %u npx %u density %u extreme %u end %d: row %u px %u is %d, not %d", c->rows, c->k, c->npx, c->density,
               c->extreme, at_end, r, px, got, want);
          bad = 1;
        }
      } else {
        double want = sum > a.lo ? sum : a.lo;
        want = want < a.hi ? want : a.hi;
        float got;
        memcpy(&got, gy.at + (size_t)r * stride + (size_t)px * 4, 4);
        if (!(fabs(got - want) <= 1e-5 * size + 1e-30)) {
          FAIL("rows %u k %u npx %u density %u end %d: row %u px %u is %g, not %g", c->rows, c->k, c->npx, c->density, at_end, r, px,
               (double)got, want);
          bad = 1;
        }
      }
    }
  for (uint32_t g = 0; g + 1 < y_groups && !bad; g++)
    for (size_t i = (size_t)c->npx * 4; i < stride && !bad; i++)
      if (gy.at[(size_t)g * stride + i] != 0x33) {
        FAIL("rows %u k %u npx %u: wrote beyond the pixels of group %u", c->rows, c->k, c->npx, g);
        bad = 1;
      }
  cases++;
  guard_free(&gv, "weights");
  guard_free(&go, "offsets");
  guard_free(&gs, "starts");
  guard_free(&gb, "bias");
  guard_free(&gq, "scale");
  guard_free(&gx, "x");
  guard_free(&gy, "y");
  gs_test_packed_free(&p);
  free(plain);
  free(bias);
  free(scale);
  free(s.w);
  free(s.start);
  free(s.col);
  free(s.values);
}

static void run_mm(uint32_t index, const uint32_t info[8]) {
  static const uint32_t rows[] = {1, 3, 4, 5, 12, 16, 19, 37}, ks[] = {4, 8, 12, 20, 64, 132, 516}, px[] = {16, 32, 48, 64, 80, 144};
  static const uint32_t densities[] = {0, 10, 50, 100};
  const int dense = info[3] == GS_FORM_DENSE, gemv = info[5] == 1;
  for (uint32_t r = 0; r < sizeof rows / sizeof *rows; r++)
    for (uint32_t k = 0; k < sizeof ks / sizeof *ks; k++)
      for (uint32_t n = 0; n < (gemv ? 1 : sizeof px / sizeof *px); n++) {
        /* The larger products only with the fewer pixels. */
        if (ks[k] >= 132 && (px[n] > 64 || rows[r] == 37) && !gemv) continue;
        for (uint32_t d = dense ? 3 : 0; d < 4; d++) {
          mm_case c = {rows[r], ks[k], gemv ? 1 : px[n], densities[d], cases % 7 == 3 ? 1 : cases % 29 == 5 ? 2 : cases % 31 == 6 ? 3 : 0,
                       (r + k) % 2};
          check_mm(index, info, &c, (int)(cases & 1));
          if (gemv) check_mm(index, info, &c, (int)(cases & 1));
        }
      }
}

/* ---- depthwise ---- */
static void check_dw(uint32_t index, const uint32_t info[8], gs_dw_args a, int wide, int at_end) {
  const gs_dtype t = (gs_dtype)info[2];
  const uint32_t ih = (a.oh - 1) * a.sh + (a.kh - 1) * a.dh + 1, iw = (a.ow - 1) * a.sw + (a.kw - 1) * a.dw + 1;
  const uint32_t lanes = t == GS_S8 ? 4 : 1, taps = a.kh * a.kw, opx = a.oh * a.ow;
  a.x_row = (size_t)(iw + below(3)) * 4;
  a.y_px = opx == 1 ? 1 : (opx + 15) / 16 * 16;
  const size_t x_bytes = (ih - 1) * a.x_row + (size_t)iw * 4;
  guarded gx = guard_new(x_bytes + 64, at_end, 0), gy = guard_new((size_t)a.y_px * 4, at_end, 0x33);
  guarded gw = guard_new((size_t)taps * (t == GS_S8 ? 8 : 4), at_end, 0), gb = guard_new(lanes * 4, at_end, 0);
  guarded gq = guard_new(16, at_end, 0);
  float *scale = (float *)(void *)gq.at;
  for (size_t i = 0; i < x_bytes + 64; i++) gx.at[i] = (uint8_t)rnd();
  if (t == GS_F32) for (size_t i = 0; i + 4 <= x_bytes + 64; i += 4) {
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
  gs_test_dw_run(index, &a);
  int bad = 0;
  for (uint32_t oy = 0; oy < a.oh && !bad; oy++)
    for (uint32_t ox = 0; ox < a.ow && !bad; ox++)
      for (uint32_t l = 0; l < lanes && !bad; l++) {
        double sum = t == GS_S8 ? ((int32_t *)(void *)gb.at)[l] : ((float *)(void *)gb.at)[l], size = fabs(sum);
        for (uint32_t ky = 0; ky < a.kh; ky++)
          for (uint32_t kx = 0; kx < a.kw; kx++) {
            const uint8_t *x = gx.at + (size_t)(oy * a.sh + ky * a.dh) * a.x_row + (size_t)(ox * a.sw + kx * a.dw) * 4;
            const uint32_t tap = (ky * a.kw + kx) * lanes + l;
            float f;
            memcpy(&f, x, 4);
            const double v = t == GS_S8 ? (double)(int8_t)x[l] * ((int16_t *)(void *)gw.at)[tap] : (double)f * ((float *)(void *)gw.at)[tap];
            sum += v;
            size += fabs(v);
          }
        const uint8_t *y = gy.at + ((size_t)oy * a.ow + ox) * 4;
        float got;
        memcpy(&got, y, 4);
        double want = sum > a.lo ? sum : a.lo;
        want = want < a.hi ? want : a.hi;
        bad = t == GS_S8 ? (int8_t)y[l] != gs_requantize((float)(int32_t)sum * scale[l], a.q.zp, a.q.lo, a.q.hi)
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
}

static void run_dw(uint32_t index, const uint32_t info[8]) {
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
          check_dw(index, info, a, below(4) == 0, end);
        }
}

/* ---- element-wise ---- */
static void run_binary(uint32_t index, const uint32_t info[8]) {
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
  uint32_t info[8];
  if (argc == 2 && strcmp(argv[1], "list") == 0) {
    for (uint32_t i = 0; i < gs_test_kernel_count(); i++) {
      gs_test_kernel_info(i, info);
      printf("%u %s %u\n", i, gs_test_kernel_name(i), info[1]);
    }
    printf("best %u\n", (unsigned)gs_detect_isa());
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
  else run_lut(index);
  printf("%u cases, %d failures\n", cases, failures);
  return failures ? 1 : 0;
}
