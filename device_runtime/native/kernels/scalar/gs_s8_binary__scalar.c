/* Element-wise int8 add (or subtract) and multiply with requantisation. */
#include "scalar.h"

void gs_s8_add__scalar(const gs_binary_s8_args *a) {
  for (size_t i = 0; i < a->n; i++) {
    int32_t q = ((a->a[i] * a->ma + a->b[i] * a->mb + a->bias) >> a->shift) + a->zo;
    q = q > a->lo ? q : a->lo;
    a->y[i] = (int8_t)(q < a->hi ? q : a->hi);
  }
}

void gs_s8_mul__scalar(const gs_binary_s8_args *a) {
  for (size_t i = 0; i < a->n; i++) {
    float v = (float)((a->a[i] - a->za) * (a->b[i] - a->zb)) * a->ra;
    a->y[i] = (int8_t)gs_requantize(v, a->zo, a->lo, a->hi);
  }
}
