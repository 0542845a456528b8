/* Depthwise int8 3x3 stride 1. */
#include "neon_dw.h"

void gs_s8_dw_3x3s1__neon(const gs_dw_args *a) { gs_s8_dw_3x3n(a, 1); }
