/* Depthwise f32 5x5 stride 2: two output rows of four pixels at a time. */
#include "neon_dw_f32.h"

GS_DWN_F32_KERNEL(gs_f32_dw_5x5s2__neon, 5, 2, 2)
