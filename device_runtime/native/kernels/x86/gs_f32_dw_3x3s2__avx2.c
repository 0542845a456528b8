/* Depthwise f32 3x3 stride 2, padding by masks. */
#include "avx2_dw_f32.h"

GS_TARGET void gs_f32_dw_3x3s2__avx2(const gs_dw_args *a) { gs_dw_f32_256(a, 3, 2); }
