/* The scalar micro-kernels: slow, plain, and the definition of what the others compute. */
#ifndef GS_SCALAR_H
#define GS_SCALAR_H
#include "../../src/core.h"

#define GS_SCALAR_MM(form) \
  void gs_##form##_4x16__scalar(const gs_mm_args *a); \
  void gs_##form##_4x1__scalar(const gs_mm_args *a);
GS_SCALAR_MM(s8_mm_dense)
GS_SCALAR_MM(s8_mm_1x4)
GS_SCALAR_MM(s8_mm_4x4)
GS_SCALAR_MM(s8_mm_4x1)
GS_SCALAR_MM(f32_mm_dense)
GS_SCALAR_MM(f32_mm_1x4)
GS_SCALAR_MM(f32_mm_4x4)
void gs_s8_dw_any__scalar(const gs_dw_args *a);
void gs_f32_dw_any__scalar(const gs_dw_args *a);
void gs_s8_add__scalar(const gs_binary_s8_args *a);
void gs_s8_mul__scalar(const gs_binary_s8_args *a);
void gs_lut__scalar(const uint8_t *x, uint8_t *y, size_t n, const uint8_t table[256]);

/* Pixels that one pass over the weights serves. */
static inline uint32_t gs_scalar_chunk(const gs_mm_args *a) { return a->npx < GS_PX ? a->npx : GS_PX; }

/* acc[p] += the four lanes of pixel p times w[0..3]. */
static inline void gs_scalar_dot4(int32_t *acc, const int8_t *x, const int8_t *w, uint32_t n) {
  for (uint32_t p = 0; p < n; p++)
    acc[p] += x[p * 4] * w[0] + x[p * 4 + 1] * w[1] + x[p * 4 + 2] * w[2] + x[p * 4 + 3] * w[3];
}

/* Requantises and writes row `row` of n pixels from pixel px. */
static inline void gs_scalar_store_s8(const gs_mm_args *a, uint32_t row, uint32_t px, uint32_t n, const int32_t *acc) {
  if (row >= (a->w->rows + 3) / 4 * 4) return;
  int8_t *y = (int8_t *)a->y + row / 4 * a->y_stride + (size_t)px * 4 + row % 4;
  for (uint32_t p = 0; p < n; p++)
    y[p * 4] = (int8_t)gs_requantize((float)acc[p] * a->q.scale[row], a->q.zp, a->q.lo, a->q.hi);
}

static inline void gs_scalar_store_f32(const gs_mm_args *a, uint32_t row, uint32_t px, uint32_t n, const float *acc) {
  if (row >= a->w->rows) return;
  float *y = (float *)((uint8_t *)a->y + row * a->y_stride) + px;
  for (uint32_t p = 0; p < n; p++) {
    float v = acc[p] > a->lo ? acc[p] : a->lo;
    y[p] = v < a->hi ? v : a->hi;
  }
}
#endif
