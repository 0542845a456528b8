/* Depthwise f32 5x5 stride 1: two output rows of four pixels at a time. */
#include "neon_dw_f32.h"

GS_DWN_F32_KERNEL(gs_f32_dw_5x5s1__neon, 5, 1, 2)
