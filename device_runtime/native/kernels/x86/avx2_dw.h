/* Depthwise int8 3x3 on AVX2 by 16 bits: a strip of four output pixels walks down the plane. Neighbouring pixels meet in pairs,
 * lane by lane, so that vpmaddwd takes two taps; every input row is widened once for the output rows that use it. */
#ifndef GS_X86_AVX2_DW_H
#define GS_X86_AVX2_DW_H
#include "avx2.h"

typedef struct {
  __m256i first[3], last[3]; /* of every kernel row: taps 0 and 1, tap 2 and zero; dword l of each half is lane l */
  __m256i bias, pad;
  __m256 scale;
  gs_rq256 q;
  __m128i flip;
} gs_dw256;

GS_INLINE gs_dw256 gs_dw256_make(const gs_dw_args *a) {
  const int16_t *w = a->w;
  gs_dw256 k;
  GS_UNROLL for (int ky = 0; ky < 3; ky++) {
    const __m128i t0 = _mm_loadl_epi64((const __m128i *)(w + 12 * ky)), t1 = _mm_loadl_epi64((const __m128i *)(w + 12 * ky + 4));
    const __m128i t2 = _mm_loadl_epi64((const __m128i *)(w + 12 * ky + 8));
    k.first[ky] = _mm256_broadcastsi128_si256(_mm_unpacklo_epi16(t0, t1));
    k.last[ky] = _mm256_broadcastsi128_si256(_mm_unpacklo_epi16(t2, _mm_setzero_si128()));
  }
  k.bias = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)a->bias));
  k.pad = _mm256_set1_epi32((int32_t)a->pad);
  k.scale = _mm256_broadcast_ps((const __m128 *)(const void *)a->q.scale);
  k.q = gs_rq256_make(&a->q);
  k.flip = _mm_set1_epi32((int32_t)a->flip);
  return k;
}

/* Words first..first + 7 of an input row; those outside it are padding and not touched. */
GS_INLINE __m256i gs_dw256_load(const int8_t *x, __m256i inside, const int whole, const gs_dw256 *k) {
  if (whole) return _mm256_loadu_si256((const __m256i *)x);
  return _mm256_or_si256(_mm256_maskload_epi32((const int *)(const void *)x, inside), _mm256_andnot_si256(inside, k->pad));
}

/* Pixels 0, 1 and s, s + 1 of four as pairs of every lane, widened: two output pixels' worth of two taps. */
GS_INLINE __m256i gs_dw256_pairs(__m128i four, const int stride) {
  const __m128i by1 = _mm_setr_epi8(0, 4, 1, 5, 2, 6, 3, 7, 4, 8, 5, 9, 6, 10, 7, 11);
  const __m128i by2 = _mm_setr_epi8(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
  return _mm256_cvtepi8_epi16(_mm_shuffle_epi8(four, stride == 1 ? by1 : by2));
}

/* What one input row gives: for output pixels 0, 1 and 2, 3 the pairs of taps 0 and 1, and those that begin with tap 2. */
typedef struct {
  __m256i first[2], last[2];
} gs_dw256_row;

GS_INLINE gs_dw256_row gs_dw256_taps(const int8_t *x, const __m256i inside[2], int outside, const int stride, const int whole,
                                     const gs_dw256 *k) {
  gs_dw256_row t;
  const __m256i v = outside ? k->pad : gs_dw256_load(x, inside[0], whole, k);
  const __m128i low = _mm256_castsi256_si128(v), high = _mm256_extracti128_si256(v, 1);
  t.first[0] = gs_dw256_pairs(low, stride);
  t.last[0] = gs_dw256_pairs(_mm_alignr_epi8(high, low, 8), stride);
  if (stride == 1) {
    t.first[1] = t.last[0];
    t.last[1] = gs_dw256_pairs(high, stride);
  } else {
    const __m256i far = outside ? k->pad : gs_dw256_load(x + 24, inside[1], whole, k);
    t.first[1] = gs_dw256_pairs(high, stride);
    t.last[1] = gs_dw256_pairs(_mm256_castsi256_si128(far), stride);
  }
  return t;
}

GS_INLINE __m256i gs_dw256_add(__m256i acc, const gs_dw256_row *t, int half, int ky, const gs_dw256 *k) {
  return _mm256_add_epi32(acc, _mm256_add_epi32(_mm256_madd_epi16(t->first[half], k->first[ky]), _mm256_madd_epi16(t->last[half], k->last[ky])));
}

GS_INLINE void gs_dw256_store(int8_t *y, const __m256i sum[2], uint32_t n, const gs_dw256 *k) {
  const __m256i words = _mm256_packs_epi32(gs_rq256_acc(sum[0], k->scale, &k->q), gs_rq256_acc(sum[1], k->scale, &k->q));
  const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)); /* pixels 0 2 1 3 */
  const __m128i out = _mm_xor_si128(_mm_shuffle_epi32(bytes, 0xd8), k->flip);
  if (n >= 4) _mm_storeu_si128((__m128i *)y, out);
  else _mm_maskstore_epi32((int *)(void *)y, gs_first4(n), out);
}

/* whole: every word that the strip loads lies inside the rows. */
GS_INLINE void gs_dw256_strip(const gs_dw_args *a, uint32_t ox, const int stride, const int whole, const gs_dw256 *k) {
  const int64_t col = (int64_t)ox * stride - a->left, height = a->ih;
  const __m256i inside[2] = {gs_columns256(col, a->iw), gs_columns256(col + 6, a->iw)};
  const size_t x_row = a->x_row, y_row = (size_t)a->ow * 4; /* here, because y may lie over anything for all the compiler knows */
  const uint32_t n = a->ow - ox;
  const int8_t *x = (const int8_t *)a->x + col * 4 - (int64_t)a->top * (int64_t)x_row;
  int8_t *y = (int8_t *)a->y + (size_t)ox * 4;
  int64_t iy = -(int64_t)a->top;
  __m256i up[2] = {k->bias, k->bias}, mid[2] = {k->bias, k->bias}; /* sums that want one row more, and two (stride 1) */
  const int64_t steps = (int64_t)a->oh + (stride == 1 ? 2 : 1);
  for (int64_t r = 0; r < steps; r++) {
    gs_dw256_row t = gs_dw256_taps(x, inside, iy < 0 || iy >= height, stride, whole, k);
    __m256i done[2];
    GS_UNROLL for (int h = 0; h < 2; h++) {
      done[h] = gs_dw256_add(up[h], &t, h, 2, k);
      up[h] = stride == 1 ? gs_dw256_add(mid[h], &t, h, 1, k) : gs_dw256_add(k->bias, &t, h, 0, k);
      if (stride == 1) mid[h] = gs_dw256_add(k->bias, &t, h, 0, k);
    }
    if (r >= (stride == 1 ? 2 : 1)) {
      gs_dw256_store(y, done, n, k);
      y += y_row;
    }
    x += x_row;
    iy++;
    if (stride == 1) continue;
    t = gs_dw256_taps(x, inside, iy < 0 || iy >= height, stride, whole, k);
    GS_UNROLL for (int h = 0; h < 2; h++) up[h] = gs_dw256_add(up[h], &t, h, 1, k);
    x += x_row;
    iy++;
  }
}

/* The last strip ends with the row and computes again what the one before it has. */
GS_INLINE void gs_s8_dw_3x3_256(const gs_dw_args *a, const int stride) {
  const gs_dw256 k = gs_dw256_make(a);
  for (uint32_t ox = 0; ox < a->ow; ox += 4) {
    const uint32_t at = a->ow >= 4 && ox + 4 > a->ow ? a->ow - 4 : ox;
    const int64_t col = (int64_t)at * stride - a->left;
    if (col >= 0 && col + (stride == 1 ? 8 : 14) <= a->iw) gs_dw256_strip(a, at, stride, 1, &k);
    else gs_dw256_strip(a, at, stride, 0, &k);
  }
}
#endif
