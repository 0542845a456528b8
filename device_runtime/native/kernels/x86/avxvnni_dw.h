/* Depthwise int8 3x3 on AVX-VNNI: a strip of four output pixels walks down the plane; the three taps of a kernel row meet in one
 * vpdpbusd after two shuffles, once an input row for the output rows that use it. */
#ifndef GS_X86_AVXVNNI_DW_H
#define GS_X86_AVXVNNI_DW_H
#define GS_TARGET __attribute__((target("avx2,fma,avxvnni")))
#include "avx2.h"
#include "dw_dot.h"

typedef struct {
  __m256i w[3], bias, pad, shift, near, far, turn; /* near and far: words of output pixels 0 and 1, 2 and 3 */
  __m256 scale, hi;
  __m256i zp;
  __m128i lo, flip;
} gs_dwv;

GS_INLINE gs_dwv gs_dwv_make(const gs_dw_args *a, const int stride) {
  const gs_dw_dot_weights *w = a->packed;
  const int s = stride, f = stride == 1 ? 2 : 0; /* stride 2 takes pixels 2 and 3 from a load four words on */
  gs_dwv k;
  GS_UNROLL for (int ky = 0; ky < 3; ky++) k.w[ky] = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)w->w[ky]));
  k.bias = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)w->bias));
  k.pad = _mm256_set1_epi32((int32_t)a->pad);
  k.shift = _mm256_set1_epi8((char)0x80);
  k.near = _mm256_setr_epi32(0, 1, 2, 3, s, s + 1, s + 2, s + 3);
  k.far = _mm256_setr_epi32(f, f + 1, f + 2, f + 3, f + s, f + s + 1, f + s + 2, f + s + 3);
  k.turn = _mm256_broadcastsi128_si256(_mm_setr_epi32(0x0c080400, 0x0d090501, 0x0e0a0602, 0x0f0b0703));
  k.scale = _mm256_broadcast_ps((const __m128 *)(const void *)w->scale);
  k.hi = _mm256_set1_ps((float)(a->q.hi - a->q.zp));
  k.zp = _mm256_set1_epi16((int16_t)a->q.zp);
  k.lo = _mm_set1_epi8((int8_t)a->q.lo);
  k.flip = _mm_set1_epi32((int32_t)a->flip);
  return k;
}

/* Words of an input row as x + 128; those outside it are padding and not touched. */
GS_INLINE __m256i gs_dwv_load(const int8_t *x, __m256i inside, const gs_dwv *k) {
  const __m256i v = _mm256_maskload_epi32((const int *)(const void *)x, inside);
  return _mm256_xor_si256(_mm256_or_si256(v, _mm256_andnot_si256(inside, k->pad)), k->shift);
}
GS_INLINE __m256i gs_dwv_turn(__m256i v, __m256i words, const gs_dwv *k) {
  return _mm256_shuffle_epi8(_mm256_permutevar8x32_epi32(v, words), k->turn);
}

GS_INLINE void gs_dwv_taps(const int8_t *x, const __m256i inside[2], int outside, const int stride, const gs_dwv *k, __m256i t[2]) {
  const __m256i v = outside ? _mm256_xor_si256(k->pad, k->shift) : gs_dwv_load(x, inside[0], k);
  t[0] = gs_dwv_turn(v, k->near, k);
  t[1] = gs_dwv_turn(stride == 1 || outside ? v : gs_dwv_load(x + 16, inside[1], k), k->far, k);
}

/* Only the upper bound is needed before the conversion: packing saturates the rest, and the lower one is applied to bytes. */
GS_INLINE void gs_dwv_store(int8_t *y, const __m256i sum[2], uint32_t n, const gs_dwv *k) {
  __m256i r[2];
  GS_UNROLL for (int h = 0; h < 2; h++)
    r[h] = _mm256_cvtps_epi32(_mm256_min_ps(k->hi, _mm256_mul_ps(_mm256_cvtepi32_ps(sum[h]), k->scale)));
  const __m256i words = _mm256_adds_epi16(_mm256_packs_epi32(r[0], r[1]), k->zp);
  const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)); /* pixels 0 2 1 3 */
  const __m128i out = _mm_xor_si128(_mm_shuffle_epi32(_mm_max_epi8(bytes, k->lo), 0xd8), k->flip);
  if (n >= 4) _mm_storeu_si128((__m128i *)y, out);
  else _mm_maskstore_epi32((int *)(void *)y, gs_first4(n), out);
}

GS_INLINE void gs_dwv_strip(const gs_dw_args *a, uint32_t ox, const int stride, const gs_dwv *k) {
  const int64_t col = (int64_t)ox * stride - a->left, height = a->ih;
  const __m256i inside[2] = {gs_columns256(col, a->iw), gs_columns256(col + 4, a->iw)};
  const size_t x_row = a->x_row, y_row = (size_t)a->ow * 4; /* here, because y may lie over anything for all the compiler knows */
  const uint32_t n = a->ow - ox;
  const int8_t *x = (const int8_t *)a->x + col * 4 - (int64_t)a->top * (int64_t)x_row;
  int8_t *y = (int8_t *)a->y + (size_t)ox * 4;
  int64_t iy = -(int64_t)a->top;
  __m256i up[2] = {k->bias, k->bias}, mid[2] = {k->bias, k->bias}; /* sums that want one row more, and two (stride 1) */
  const int64_t steps = (int64_t)a->oh + (stride == 1 ? 2 : 1);
  for (int64_t r = 0; r < steps; r++) {
    __m256i t[2], done[2];
    gs_dwv_taps(x, inside, iy < 0 || iy >= height, stride, k, t);
    GS_UNROLL for (int h = 0; h < 2; h++) {
      done[h] = _mm256_dpbusd_avx_epi32(up[h], t[h], k->w[2]);
      up[h] = stride == 1 ? _mm256_dpbusd_avx_epi32(mid[h], t[h], k->w[1]) : _mm256_dpbusd_avx_epi32(k->bias, t[h], k->w[0]);
      if (stride == 1) mid[h] = _mm256_dpbusd_avx_epi32(k->bias, t[h], k->w[0]);
    }
    if (r >= (stride == 1 ? 2 : 1)) {
      gs_dwv_store(y, done, n, k);
      y += y_row;
    }
    x += x_row;
    iy++;
    if (stride == 1) continue;
    gs_dwv_taps(x, inside, iy < 0 || iy >= height, stride, k, t);
    GS_UNROLL for (int h = 0; h < 2; h++) up[h] = _mm256_dpbusd_avx_epi32(up[h], t[h], k->w[1]);
    x += x_row;
    iy++;
  }
}

/* The last strip ends with the row and computes again what the one before it has. */
GS_INLINE void gs_s8_dw_3x3_vnni256(const gs_dw_args *a, const int stride) {
  const gs_dwv k = gs_dwv_make(a, stride);
  for (uint32_t ox = 0; ox < a->ow; ox += 4) gs_dwv_strip(a, a->ow >= 4 && ox + 4 > a->ow ? a->ow - 4 : ox, stride, &k);
}
#endif
