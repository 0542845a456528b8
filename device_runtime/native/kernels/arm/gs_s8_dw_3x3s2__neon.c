/* Depthwise int8 3x3 stride 2. */
#include "neon_dw3x3.h"

GS_INLINE void strip(const gs_dwn *k, uint32_t ox, int64_t first, const int edge, const int relu) {
  gs_s8_dw_3x3n_strip(k, ox, first, 2, edge, relu);
}

static __attribute__((noinline)) void narrow(const gs_dw_args *a, uint32_t oy, uint32_t ox, int64_t first) {
  gs_s8_dw_3x3n_narrow(a, oy, ox, first, 2);
}

void gs_s8_dw_3x3s2__neon(const gs_dw_args *a) { GS_DWN_STRIPS(gs_dwn_make, strip, 2, 9) }
