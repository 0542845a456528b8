/* int8 matrix products from dot products of four unsigned and four signed bytes, 256 bits wide. With GS_AVXVNNI that is one
 * vpdpbusd and x is x + 128; without, vpmaddubsw and vpmaddwd, exact where x lies in 0..127: 2 * 127 * 127 fits 16 bits. */
#ifndef GS_X86_AVX2_DOT_H
#define GS_X86_AVX2_DOT_H
#if defined(GS_AVXVNNI)
#define GS_TARGET __attribute__((target("avx2,fma,avxvnni")))
#endif
#include "avx2.h"

GS_INLINE __m256i gs_dot256(__m256i acc, __m256i x, __m256i w) {
#if defined(GS_AVXVNNI)
  return _mm256_dpbusd_avx_epi32(acc, x, w);
#else
  return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), _mm256_set1_epi16(1)));
#endif
}

GS_INLINE __m256i gs_load256(const void *p) { return _mm256_loadu_si256((const __m256i *)p); }
GS_INLINE __m256i gs_word256(const void *p) { return _mm256_set1_epi32(gs_load_i32(p)); }

/* Requantises sums of eight pixels of four rows and stores their quads. Only the upper bound is needed
 * before the conversion, packing saturates the rest. */
GS_INLINE void gs_dot256_store(const gs_mm_args *a, uint32_t block, uint32_t pixel, const __m256i sum[4]) {
  const __m256i order = _mm256_setr_epi32(0x0c080400, 0x0d090501, 0x0e0a0602, 0x0f0b0703, 0x0c080400, 0x0d090501, 0x0e0a0602,
                                          0x0f0b0703);
  const __m256 hi = _mm256_set1_ps((float)(a->q.hi - a->q.zp));
  const __m256i zp = _mm256_set1_epi16((int16_t)a->q.zp), lo = _mm256_set1_epi8((int8_t)a->q.lo);
  const float *scale = a->q.scale + (size_t)block * 4;
  __m256i t[4];
  GS_UNROLL for (int r = 0; r < 4; r++)
    t[r] = _mm256_cvtps_epi32(_mm256_min_ps(hi, _mm256_mul_ps(_mm256_cvtepi32_ps(sum[r]), _mm256_set1_ps(scale[r]))));
  __m256i low = _mm256_adds_epi16(_mm256_packs_epi32(t[0], t[1]), zp), high = _mm256_adds_epi16(_mm256_packs_epi32(t[2], t[3]), zp);
  __m256i bytes = _mm256_max_epi8(_mm256_packs_epi16(low, high), lo);
  int8_t *y = (int8_t *)a->y + (size_t)block * a->y_stride + (size_t)pixel * 4;
  _mm256_storeu_si256((__m256i *)y, _mm256_shuffle_epi8(bytes, order));
}

/* Four rows times sixteen pixels. */
typedef struct {
  __m256i acc[4][2];
} gs_dot_rows;

GS_INLINE gs_dot_rows gs_dot256_start(const gs_mm_args *a, uint32_t block) {
  gs_dot_rows s;
  GS_UNROLL for (int r = 0; r < 4; r++)
    s.acc[r][0] = s.acc[r][1] = gs_word256((const int32_t *)a->w->bias + (size_t)block * 4 + r);
  return s;
}
GS_INLINE void gs_dot256_step(gs_dot_rows *s, __m256i x0, __m256i x1, const int8_t *val) {
  GS_UNROLL for (int r = 0; r < 4; r++) {
    const __m256i w = gs_word256(val + 4 * r);
    s->acc[r][0] = gs_dot256(s->acc[r][0], x0, w);
    s->acc[r][1] = gs_dot256(s->acc[r][1], x1, w);
  }
}
GS_INLINE void gs_dot256_end(const gs_mm_args *a, uint32_t block, uint32_t pixel, const gs_dot_rows *s) {
  GS_UNROLL for (int v = 0; v < 2; v++) {
    const __m256i sum[4] = {s->acc[0][v], s->acc[1][v], s->acc[2][v], s->acc[3][v]};
    gs_dot256_store(a, block, pixel + 8 * (uint32_t)v, sum);
  }
}

GS_INLINE void gs_dot256_dense(const gs_mm_args *a) {
  for (uint32_t p = 0; p < a->npx; p += 16)
    for (uint32_t b = a->block0; b < a->block1; b++) {
      const int8_t *x = (const int8_t *)a->x + (size_t)p * 4, *val = (const int8_t *)a->w->val + (size_t)b * a->w->groups * 16;
      gs_dot_rows s = gs_dot256_start(a, b);
      for (uint32_t g = a->w->groups; g != 0; g--, x += a->x_stride, val += 16)
        gs_dot256_step(&s, gs_load256(x), gs_load256(x + 32), val);
      gs_dot256_end(a, b, p, &s);
    }
}

GS_INLINE void gs_dot256_4x4(const gs_mm_args *a) {
  for (uint32_t p = 0; p < a->npx; p += 16)
    for (uint32_t b = a->block0; b < a->block1; b++) {
      const uint32_t first = a->w->start[b], last = a->w->start[b + 1];
      const int8_t *x = (const int8_t *)a->x + (size_t)p * 4, *val = (const int8_t *)a->w->val + (size_t)first * 16;
      gs_dot_rows s = gs_dot256_start(a, b);
      for (uint32_t e = first; e < last; e++, val += 16)
        gs_dot256_step(&s, gs_load256(x + a->w->off[e]), gs_load256(x + a->w->off[e] + 32), val);
      gs_dot256_end(a, b, p, &s);
    }
}

/* Rows of their own, nv vectors of eight pixels at a time. */
GS_INLINE void gs_dot256_tile_1x4(const gs_mm_args *a, uint32_t block, uint32_t pixel, const int nv) {
  const gs_packed *w = a->w;
  const int8_t *x = (const int8_t *)a->x + (size_t)pixel * 4;
  __m256i out[4][10];
  for (uint32_t r = 0; r < 4; r++) {
    const size_t row = (size_t)block * 4 + r;
    const uint32_t *off = w->off + w->start[row], *stop = w->off + w->start[row + 1];
    const int8_t *val = (const int8_t *)w->val + (size_t)w->start[row] * 4;
    __m256i acc[10];
    GS_UNROLL for (int v = 0; v < nv; v++) acc[v] = gs_word256((const int32_t *)w->bias + row);
    for (; off != stop; off++, val += 4) {
      const int8_t *xe = x + *off;
      const __m256i we = gs_word256(val);
      GS_UNROLL for (int v = 0; v < nv; v++) acc[v] = gs_dot256(acc[v], gs_load256(xe + 32 * v), we);
    }
    GS_UNROLL for (int v = 0; v < nv; v++) out[r][v] = acc[v];
  }
  GS_UNROLL for (int v = 0; v < nv; v++) {
    const __m256i sum[4] = {out[0][v], out[1][v], out[2][v], out[3][v]};
    gs_dot256_store(a, block, pixel + 8 * (uint32_t)v, sum);
  }
}

GS_INLINE void gs_dot256_1x4(const gs_mm_args *a) {
  for (uint32_t left = a->npx / 16, p = 0; left != 0;) {
    const uint32_t units = gs_pixel_units(left);
    for (uint32_t b = a->block0; b < a->block1; b++) {
      if (units == 5) gs_dot256_tile_1x4(a, b, p, 10);
      else if (units == 4) gs_dot256_tile_1x4(a, b, p, 8);
      else if (units == 3) gs_dot256_tile_1x4(a, b, p, 6);
      else if (units == 2) gs_dot256_tile_1x4(a, b, p, 4);
      else gs_dot256_tile_1x4(a, b, p, 2);
    }
    p += units * 16;
    left -= units;
  }
}

/* Byte off % 4 of eight pixels at x + off / 4 * 4, as byte j of every pixel; the others zero. */
GS_INLINE __m256i gs_dot256_lane(const int8_t *x, uint32_t off, const int j) {
  const __m256i pixels = _mm256_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c, 0, 0x04040404, 0x08080808, 0x0c0c0c0c);
  const uint32_t only = 0x80808080u ^ 0x80u << 8 * j; /* bit 7 makes a zero of a byte */
  const __m256i move = _mm256_or_si256(_mm256_set1_epi32((int32_t)(only | (off & 3) << 8 * j)), pixels);
  return _mm256_shuffle_epi8(gs_load256(x + (off & ~3u)), move);
}

/* Four single columns are interleaved on the fly into the group of a dense product. */
GS_INLINE void gs_dot256_4x1(const gs_mm_args *a) {
  for (uint32_t p = 0; p < a->npx; p += 16)
    for (uint32_t b = a->block0; b < a->block1; b++) {
      const uint32_t *off = a->w->off + a->w->start[b], *stop = a->w->off + a->w->start[b + 1];
      const int8_t *x = (const int8_t *)a->x + (size_t)p * 4, *val = (const int8_t *)a->w->val + (size_t)a->w->start[b] * 4;
      gs_dot_rows s = gs_dot256_start(a, b);
      for (; off != stop; off += 4, val += 16) {
        __m256i v[2];
        GS_UNROLL for (int h = 0; h < 2; h++)
          v[h] = _mm256_or_si256(
              _mm256_or_si256(gs_dot256_lane(x + 32 * h, off[0], 0), gs_dot256_lane(x + 32 * h, off[1], 1)),
              _mm256_or_si256(gs_dot256_lane(x + 32 * h, off[2], 2), gs_dot256_lane(x + 32 * h, off[3], 3)));
        gs_dot256_step(&s, v[0], v[1], val);
      }
      gs_dot256_end(a, b, p, &s);
    }
}
#endif
