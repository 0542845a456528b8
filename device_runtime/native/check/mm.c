/* Matrix products: every packed form over a table of shapes, against plain sums in double. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

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

static weights make_weights(const uint32_t info[GS_TEST_INFO], const mm_case *c) {
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

static size_t value_bytes(const uint32_t info[GS_TEST_INFO], const gs_packed *p) {
  const size_t item = info[2] == GS_F32 ? 4 : info[7] & GS_WIDE_W ? 2 : 1, lanes = info[2] == GS_F32 ? 1 : 4;
  if (info[3] == GS_FORM_DENSE) return (size_t)p->row_blocks * p->groups * info[4] * lanes * item;
  if (info[3] == GS_FORM_1X4) return p->entries * lanes * item; /* lists in fours count four entries a step */
  if (info[3] == GS_FORM_4X4) return p->entries * lanes * 4 * item;
  return p->entries * 4 * item;
}

static void check_mm(uint32_t index, const uint32_t info[GS_TEST_INFO], const mm_case *c, int at_end) {
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
    scale[r] = c->extreme == 2 ? 1e-30f : c->extreme == 3 ? (info[7] & GS_TAME ? 1.0f : 1e20f) : (0.5f + 0.5f * fabsf(real())) * 2e-3f;
  }
  gs_packed p;
  const size_t wide = info[7] & GS_WIDE_X ? 2 : 1;
  if (gs_test_mm_pack(index, &s.m, bias, scale, stride * wide, &p) != GS_OK) {
    FAIL("pack refused rows %u k %u", c->rows, c->k);
    return;
  }
  /* Packed parts against guards; int8 weights at an odd address when they lie at the start. */
  const size_t shift = !at_end && t == GS_S8 && !(info[7] & GS_WIDE_W) ? 1 : 0;
  const size_t vb = value_bytes(info, &p), lists = info[7] & GS_SORTED          ? padded * p.slices
                                                   : p.order                     ? padded * p.slices / 4
                                                   : info[3] == GS_FORM_1X4 ? padded
                                                                            : padded / 4;
  guarded gv = guard_new(vb + GS_WSLACK + shift, at_end, 0);
  if (vb) memcpy(gv.at + shift, p.val, vb);
  guarded go = guard_copy(p.off, p.entries * p.off_bytes, p.entries * p.off_bytes, at_end);
  guarded gr = guard_copy(p.order, p.order ? padded * p.slices * 4 : 0, p.order ? padded * p.slices * 4 : 0, at_end);
  guarded gs = guard_copy(p.start, p.start ? (lists + 1) * 4 : 0, p.start ? (lists + 1) * 4 : 0, at_end);
  guarded gb = guard_copy(p.bias, (size_t)padded * 4, (size_t)padded * 4, at_end);
  guarded gq = guard_copy(p.scale, p.scale ? (size_t)padded * 4 : 0, p.scale ? (size_t)padded * 4 : 0, at_end);
  gs_packed moved = p;
  moved.val = gv.at + shift;
  moved.off = p.off ? (const uint32_t *)(void *)go.at : NULL;
  moved.order = p.order ? (const uint32_t *)(void *)gr.at : NULL;
  moved.start = p.start ? (const uint32_t *)(void *)gs.at : NULL;
  moved.bias = gb.at;
  moved.scale = p.scale ? (float *)(void *)gq.at : NULL;

  const size_t x_bytes = (size_t)(groups - 1) * stride + (size_t)c->npx * 4, y_bytes = (size_t)(y_groups - 1) * stride + (size_t)c->npx * 4;
  guarded gx = guard_new(wide == 2 ? (size_t)(2 * groups - 1) * stride + (size_t)c->npx * 4 : x_bytes, at_end, 0);
  guarded gy = guard_new(y_bytes, at_end, 0x33);
  uint8_t *plain = malloc(x_bytes);
  if (!plain) exit(2);
  const uint8_t range = info[8] == 7 ? 0x7f : 0xff; /* kernels of seven bits see 0..127 */
  for (size_t i = 0; i < x_bytes; i++) plain[i] = (c->extreme == 1 ? (rnd() & 1 ? 0x80 : 0x7f) : (uint8_t)rnd()) & range;
  if (t == GS_F32)
    for (size_t i = 0; i + 4 <= x_bytes; i += 4) {
      float v = real();
      memcpy(plain + i, &v, 4);
    }
  if (wide == 1)
    for (size_t i = 0; i < x_bytes; i++) gx.at[i] = plain[i] ^ (info[6] ? 0x80 : 0);
  else
    for (size_t i = 0; i < x_bytes; i++) {
      const size_t group = i / stride, pixel = i % stride / 4, lane = i % 4, at = (2 * group + lane / 2) * stride + pixel * 4 + lane % 2 * 2;
      const int16_t v = (int8_t)plain[i];
      if (pixel < c->npx) memcpy(gx.at + at, &v, 2);
    }

  gs_mm_args a;
  memset(&a, 0, sizeof a);
  a.x = gx.at;
  a.x_stride = stride * wide;
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
  guard_free(&gr, "order");
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

void run_mm(uint32_t index, const uint32_t info[GS_TEST_INFO]) {
  static const uint32_t rows[] = {1, 3, 4, 5, 12, 16, 19, 37, 70}, ks[] = {4, 8, 12, 20, 64, 132, 516, 1156}, px[] = {16, 32, 48, 64, 80, 144};
  static const uint32_t densities[] = {0, 10, 50, 100};
  const int dense = info[3] == GS_FORM_DENSE, gemv = info[5] == 1;
  for (uint32_t r = 0; r < sizeof rows / sizeof *rows; r++)
    for (uint32_t k = 0; k < sizeof ks / sizeof *ks; k++)
      for (uint32_t n = 0; n < (gemv ? 1 : sizeof px / sizeof *px); n++) {
        /* The larger products only with the fewer pixels. */
        if (ks[k] >= 132 && (px[n] > 80 || (rows[r] >= 37 && px[n] > 16)) && !gemv) continue;
        for (uint32_t d = dense ? 3 : 0; d < 4; d++) {
          mm_case c = {rows[r], ks[k], gemv ? 1 : px[n], densities[d], cases % 7 == 3 ? 1 : cases % 29 == 5 ? 2 : cases % 31 == 6 ? 3 : 0,
                       (r + k) % 2};
          check_mm(index, info, &c, (int)(cases & 1));
          if (gemv) check_mm(index, info, &c, (int)(cases & 1));
        }
      }
}
