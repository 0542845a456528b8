/* Depthwise int8 3x3 stride 2. */
#include "neon_dw3x3.h"

GS_INLINE void strip(const gs_dwn *k, uint32_t ox, int64_t first, const int edge) { gs_s8_dw_3x3n_strip(k, ox, first, 2, edge); }

void gs_s8_dw_3x3s2__neon(const gs_dw_args *a) { GS_DWN_STRIPS(strip, 2, 9) }
