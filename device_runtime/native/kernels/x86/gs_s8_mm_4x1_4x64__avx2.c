/* Sparse int8 in 4x1 blocks by 16 bits: four single columns are interleaved on the fly into the group of a dense kernel. */
#include "avx2_mm.h"

/* Byte lane l of every pixel to byte j, the rest zero: by [j][l]. */
#define MOVE(j, l) {j == 0 ? l : 128, j == 1 ? l : 128, j == 2 ? l : 128, j == 3 ? l : 128}
static const uint8_t moves[4][4][4] = {{MOVE(0, 0), MOVE(0, 1), MOVE(0, 2), MOVE(0, 3)},
                                       {MOVE(1, 0), MOVE(1, 1), MOVE(1, 2), MOVE(1, 3)},
                                       {MOVE(2, 0), MOVE(2, 1), MOVE(2, 2), MOVE(2, 3)},
                                       {MOVE(3, 0), MOVE(3, 1), MOVE(3, 2), MOVE(3, 3)}};

GS_INLINE __m256i lane(const int8_t *x, uint32_t off, const int j) {
  const __m256i pixels = _mm256_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c, 0, 0x04040404, 0x08080808, 0x0c0c0c0c);
  __m256i move = _mm256_or_si256(_mm256_set1_epi32(gs_load_i32(moves[j][off & 3])), pixels);
  return _mm256_shuffle_epi8(_mm256_loadu_si256((const __m256i *)(x + (off & ~3u))), move);
}

GS_INLINE void tile(const gs_mm_args *a, uint32_t block, uint32_t pixel) {
  const gs_packed *w = a->w;
  const int8_t *x = (const int8_t *)a->x + (size_t)pixel * 4;
  const uint32_t first = w->start[block], last = w->start[block + 1];
  const int16_t *val = (const int16_t *)w->val + (size_t)first * 4;
  __m256i acc[4][2];
  GS_UNROLL for (int r = 0; r < 4; r++) acc[r][0] = acc[r][1] = _mm256_setzero_si256();
  for (uint32_t e = first; e < last; e += 4) {
    const uint32_t *off = w->off + e;
    __m256i v = _mm256_or_si256(_mm256_or_si256(lane(x, off[0], 0), lane(x, off[1], 1)),
                                _mm256_or_si256(lane(x, off[2], 2), lane(x, off[3], 3)));
    __m256i x0 = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(v)), x1 = _mm256_cvtepi8_epi16(_mm256_extracti128_si256(v, 1));
    gs_rows256(acc, x0, x1, val);
    val += 16;
  }
  gs_store_quad256(a, block, pixel, acc);
}

GS_TARGET void gs_s8_mm_4x1_4x64__avx2(const gs_mm_args *a) {
  for (uint32_t p = 0; p < a->npx; p += 8)
    for (uint32_t b = a->block0; b < a->block1; b++) tile(a, b, p);
}
