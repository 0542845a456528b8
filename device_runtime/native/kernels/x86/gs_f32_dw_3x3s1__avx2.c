/* Depthwise f32 3x3 stride 1, padding by masks. */
#include "avx2_dw_f32.h"

GS_TARGET void gs_f32_dw_3x3s1__avx2(const gs_dw_args *a) { gs_dw_f32_256(a, 3, 1); }
