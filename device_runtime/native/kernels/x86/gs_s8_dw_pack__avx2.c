/* Packs int8 depthwise weights for vpdpbusd (dw_dot.h), for windows of up to eight columns. */
#include "dw_dot.h"

#include <string.h>

void gs_s8_dw_pack__avx2(const gs_dw_args *a, void *to) {
  gs_dw_dot_weights *p = to;
  const int16_t *w = a->w;
  const uint32_t dots = (a->kw + 3) / 4;
  memset(p->w, 0, (size_t)a->kh * dots * 16);
  for (uint32_t l = 0; l < 4; l++) {
    int32_t sum = 0;
    for (uint32_t ky = 0; ky < a->kh; ky++)
      for (uint32_t kx = 0; kx < a->kw; kx++) {
        const int16_t v = w[((size_t)ky * a->kw + kx) * 4 + l];
        p->w[ky * dots + kx / 4][l * 4 + kx % 4] = (int8_t)v;
        sum += v;
      }
    p->bias[l] = ((const int32_t *)a->bias)[l] - 128 * sum;
    p->scale[l] = a->q.scale[l];
  }
}
