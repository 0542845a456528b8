/* Dense int8 by 16 bits: four rows times eight pixels at a time. */
#include "avx2_mm.h"

GS_INLINE void tile(const gs_mm_args *a, uint32_t block, uint32_t pixel) {
  const gs_packed *w = a->w;
  const int8_t *x = (const int8_t *)a->x + (size_t)pixel * 4;
  const int16_t *val = (const int16_t *)w->val + (size_t)block * w->groups * 16;
  __m256i acc[4][2];
  GS_UNROLL for (int r = 0; r < 4; r++) acc[r][0] = acc[r][1] = _mm256_setzero_si256();
  for (uint32_t g = w->groups; g != 0; g--) {
    __m256i x0 = gs_widen16(x), x1 = gs_widen16(x + 16);
    gs_rows256(acc, x0, x1, val);
    x += a->x_stride;
    val += 16;
  }
  gs_store_quad256(a, block, pixel, acc);
}

GS_TARGET void gs_s8_mm_dense_4x64__avx2(const gs_mm_args *a) {
  for (uint32_t p = 0; p < a->npx; p += 8)
    for (uint32_t b = a->block0; b < a->block1; b++) tile(a, b, p);
}
