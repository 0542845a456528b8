/* Depthwise int8 3x3 stride 1. */
#include "avx2_dw.h"

GS_TARGET void gs_s8_dw_3x3s1__avx2(const gs_dw_args *a) { gs_s8_dw_3x3_256(a, 1); }
