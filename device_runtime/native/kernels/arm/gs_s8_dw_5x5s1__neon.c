/* Depthwise int8 5x5 stride 1. */
#include "neon_dw_s8.h"

GS_DWN_S8_KERNEL(gs_s8_dw_5x5s1__neon, 5, 1)
