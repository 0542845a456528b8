/* Dense f32: four rows times sixteen pixels at a time. */
#include "avx2_mm.h"

GS_INLINE void tile(const gs_mm_args *a, uint32_t block, uint32_t pixel) {
  const gs_packed *w = a->w;
  const char *x = (const char *)a->x + (size_t)pixel * 4;
  const float *val = (const float *)w->val + (size_t)block * w->groups * 4;
  const float *bias = (const float *)w->bias + (size_t)block * 4;
  __m256 acc[4][2];
  GS_UNROLL for (int r = 0; r < 4; r++) acc[r][0] = acc[r][1] = _mm256_set1_ps(bias[r]);
  for (uint32_t k = w->groups; k != 0; k--) {
    __m256 x0 = _mm256_loadu_ps((const float *)(const void *)x), x1 = _mm256_loadu_ps((const float *)(const void *)(x + 32));
    gs_rows_f32_256(acc, x0, x1, val);
    val += 4;
    x += a->x_stride;
  }
  gs_store_rows_f32_256(a, block, pixel, acc);
}

GS_TARGET void gs_f32_mm_dense_4x64__avx2(const gs_mm_args *a) {
  for (uint32_t p = 0; p < a->npx; p += 16)
    for (uint32_t b = a->block0; b < a->block1; b++) tile(a, b, p);
}
