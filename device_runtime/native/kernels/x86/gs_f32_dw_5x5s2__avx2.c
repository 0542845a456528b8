/* Depthwise f32 5x5 stride 2, padding by masks. */
#include "avx2_dw_f32.h"

GS_TARGET void gs_f32_dw_5x5s2__avx2(const gs_dw_args *a) { gs_dw_f32_256(a, 5, 2); }
