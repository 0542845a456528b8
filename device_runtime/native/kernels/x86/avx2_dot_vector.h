/* int8 products with one vector from 256-bit dot products (avx2_dot.h): weights are the wide operand. */
#ifndef GS_X86_AVX2_DOT_VECTOR_H
#define GS_X86_AVX2_DOT_VECTOR_H
#include "avx2_dot.h"

/* Bias, requantisation and store of a row quad whose sums are halves[0] + halves[1]. */
GS_INLINE void gs_dot256_quad(const gs_mm_args *a, uint32_t quad, __m256i halves) {
  __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1));
  sum = _mm_add_epi32(sum, _mm_loadu_si128((const __m128i *)((const int32_t *)a->w->bias + (size_t)quad * 4)));
  const int32_t out = gs_bytes4(sum, _mm_loadu_ps(a->q.scale + (size_t)quad * 4), &a->q);
  memcpy((int8_t *)a->y + (size_t)quad * a->y_stride, &out, 4);
}

GS_INLINE __m256i gs_two_words256(int32_t low, int32_t high) {
  return _mm256_set_m128i(_mm_set1_epi32(high), _mm_set1_epi32(low));
}
/* Sixteen bytes and sixteen zeros: the second half of a pair that is not there. */
GS_INLINE __m256i gs_half256(const void *p) { return _mm256_zextsi128_si256(_mm_loadu_si128((const __m128i *)p)); }

/* Sixteen rows at a time. */
GS_INLINE void gs_dot256_vector_dense(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  const int8_t *x = a->x;
  const uint32_t quads = (w->rows + 3) / 4;
  for (uint32_t b = a->block0; b < a->block1; b++) {
    const int8_t *val = (const int8_t *)w->val + (size_t)b * w->groups * 64;
    __m256i acc[2][2];
    GS_UNROLL for (int i = 0; i < 4; i++) acc[i / 2][i % 2] = _mm256_setzero_si256();
    uint32_t g = 0;
    for (; g + 2 <= w->groups; g += 2, val += 128)
      GS_UNROLL for (int i = 0; i < 4; i++)
        acc[i / 2][i % 2] = gs_dot256(acc[i / 2][i % 2], gs_word256(x + (size_t)g * 4 + 4 * (i / 2)), gs_load256(val + 32 * i));
    if (g < w->groups)
      GS_UNROLL for (int i = 0; i < 2; i++) acc[0][i] = gs_dot256(acc[0][i], gs_word256(x + (size_t)g * 4), gs_load256(val + 32 * i));
    GS_UNROLL for (uint32_t i = 0; i < 4; i++) {
      const __m256i two = _mm256_add_epi32(acc[0][i / 2], acc[1][i / 2]);
      const __m128i one = i % 2 ? _mm256_extracti128_si256(two, 1) : _mm256_castsi256_si128(two);
      if (b * 4 + i < quads) gs_dot256_quad(a, b * 4 + i, _mm256_zextsi128_si256(one));
    }
  }
}

/* Eight entries of a row a step. */
GS_INLINE void gs_dot256_vector_1x4(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  const int8_t *x = a->x;
  for (uint32_t b = a->block0; b < a->block1; b++) {
    __m256i sum[4];
    for (uint32_t r = 0; r < 4; r++) {
      const size_t row = (size_t)b * 4 + r;
      const uint32_t last = w->start[row + 1];
      uint32_t e = w->start[row];
      const int8_t *val = w->val;
      sum[r] = _mm256_setzero_si256();
      for (; e + 8 <= last; e += 8) {
        const uint32_t *off = w->off + e;
        const __m256i xv = _mm256_setr_epi32(gs_load_i32(x + off[0]), gs_load_i32(x + off[1]), gs_load_i32(x + off[2]),
                                             gs_load_i32(x + off[3]), gs_load_i32(x + off[4]), gs_load_i32(x + off[5]),
                                             gs_load_i32(x + off[6]), gs_load_i32(x + off[7]));
        sum[r] = gs_dot256(sum[r], xv, gs_load256(val + (size_t)e * 4));
      }
      for (; e < last; e++) /* lanes of zero weights add nothing */
        sum[r] = gs_dot256(sum[r], gs_word256(x + w->off[e]),
                           _mm256_zextsi128_si256(_mm_cvtsi32_si128(gs_load_i32(val + (size_t)e * 4))));
    }
    gs_dot256_quad(a, b, _mm256_hadd_epi32(_mm256_hadd_epi32(sum[0], sum[1]), _mm256_hadd_epi32(sum[2], sum[3])));
  }
}

/* Two entries, or two fours of single columns, a step. */
GS_INLINE void gs_dot256_vector_4x4(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  const int8_t *x = a->x;
  for (uint32_t b = a->block0; b < a->block1; b++) {
    const uint32_t last = w->start[b + 1];
    uint32_t e = w->start[b];
    const int8_t *val = w->val;
    __m256i acc = _mm256_setzero_si256();
    for (; e + 2 <= last; e += 2)
      acc = gs_dot256(acc, gs_two_words256(gs_load_i32(x + w->off[e]), gs_load_i32(x + w->off[e + 1])), gs_load256(val + (size_t)e * 16));
    if (e < last) acc = gs_dot256(acc, gs_word256(x + w->off[e]), gs_half256(val + (size_t)e * 16));
    gs_dot256_quad(a, b, acc);
  }
}

GS_INLINE int32_t gs_four_bytes(const uint8_t *x, const uint32_t *off) {
  return (int32_t)((uint32_t)x[off[0]] | (uint32_t)x[off[1]] << 8 | (uint32_t)x[off[2]] << 16 | (uint32_t)x[off[3]] << 24);
}

GS_INLINE void gs_dot256_vector_4x1(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  const uint8_t *x = a->x;
  for (uint32_t b = a->block0; b < a->block1; b++) {
    const uint32_t last = w->start[b + 1];
    uint32_t e = w->start[b];
    const int8_t *val = w->val;
    __m256i acc = _mm256_setzero_si256();
    for (; e + 8 <= last; e += 8)
      acc = gs_dot256(acc, gs_two_words256(gs_four_bytes(x, w->off + e), gs_four_bytes(x, w->off + e + 4)), gs_load256(val + (size_t)e * 4));
    if (e < last) acc = gs_dot256(acc, _mm256_set1_epi32(gs_four_bytes(x, w->off + e)), gs_half256(val + (size_t)e * 4));
    gs_dot256_quad(a, b, acc);
  }
}
#endif
