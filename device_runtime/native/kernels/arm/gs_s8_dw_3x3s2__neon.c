/* Depthwise int8 3x3 stride 2. */
#include "neon_dw_s8.h"

GS_DWN_S8_KERNEL(gs_s8_dw_3x3s2__neon, 3, 2)
