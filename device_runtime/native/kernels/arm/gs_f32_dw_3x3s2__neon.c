/* Depthwise f32 3x3 stride 2: two output rows of four pixels at a time. */
#include "neon_dw_f32.h"

GS_DWN_F32_KERNEL(gs_f32_dw_3x3s2__neon, 3, 2, 2)
