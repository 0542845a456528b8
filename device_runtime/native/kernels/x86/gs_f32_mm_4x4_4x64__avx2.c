/* Sparse f32 in 4x1 blocks: four rows share a list of columns. */
#include "avx2_mm.h"

GS_INLINE void tile(const gs_mm_args *a, uint32_t block, uint32_t pixel) {
  const gs_packed *w = a->w;
  const char *x = (const char *)a->x + (size_t)pixel * 4;
  const uint32_t first = w->start[block], last = w->start[block + 1];
  const float *val = (const float *)w->val + (size_t)first * 4;
  const float *bias = (const float *)w->bias + (size_t)block * 4;
  __m256 acc[4][2];
  GS_UNROLL for (int r = 0; r < 4; r++) acc[r][0] = acc[r][1] = _mm256_set1_ps(bias[r]);
  for (uint32_t e = first; e < last; e++) {
    const char *xe = x + w->off[e];
    __m256 x0 = _mm256_loadu_ps((const float *)(const void *)xe), x1 = _mm256_loadu_ps((const float *)(const void *)(xe + 32));
    gs_rows_f32_256(acc, x0, x1, val);
    val += 4;
  }
  gs_store_rows_f32_256(a, block, pixel, acc);
}

GS_TARGET void gs_f32_mm_4x4_4x64__avx2(const gs_mm_args *a) {
  for (uint32_t p = 0; p < a->npx; p += 16)
    for (uint32_t b = a->block0; b < a->block1; b++) tile(a, b, p);
}
