/* Depthwise f32 3x3 stride 1: four output rows of four pixels at a time. */
#include "neon_dw_f32.h"

GS_DWN_F32_KERNEL(gs_f32_dw_3x3s1__neon, 3, 1, 4)
