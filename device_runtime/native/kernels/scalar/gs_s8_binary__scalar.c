/* Element-wise int8 add, subtract and multiply with requantisation. */
#include "scalar.h"

void gs_s8_add__scalar(const gs_binary_s8_args *a) {
  for (size_t i = 0; i < a->n; i++) {
    float l = (float)(a->a[i] - a->za) * a->ra, r = (float)(a->b[i] - a->zb) * a->rb;
    a->y[i] = (int8_t)gs_requantize(l + r, a->zo, a->lo, a->hi);
  }
}

void gs_s8_sub__scalar(const gs_binary_s8_args *a) {
  for (size_t i = 0; i < a->n; i++) {
    float l = (float)(a->a[i] - a->za) * a->ra, r = (float)(a->b[i] - a->zb) * a->rb;
    a->y[i] = (int8_t)gs_requantize(l - r, a->zo, a->lo, a->hi);
  }
}

void gs_s8_mul__scalar(const gs_binary_s8_args *a) {
  for (size_t i = 0; i < a->n; i++) {
    float v = (float)((a->a[i] - a->za) * (a->b[i] - a->zb)) * a->ra;
    a->y[i] = (int8_t)gs_requantize(v, a->zo, a->lo, a->hi);
  }
}
