/* Depthwise int8 3x3 stride 2. */
#include "neon_dw.h"

void gs_s8_dw_3x3s2__neon(const gs_dw_args *a) { gs_s8_dw_3x3n(a, 2); }
