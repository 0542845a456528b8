/* Table look-up of bytes. */
#include "scalar.h"

void gs_lut__scalar(const uint8_t *x, uint8_t *y, size_t n, const uint8_t table[256]) {
  for (size_t i = 0; i < n; i++) y[i] = table[x[i]];
}
