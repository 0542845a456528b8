/* Depthwise int8 3x3 stride 1 by relaxed dot, where the engine takes unsigned bytes. */
#include "s8_dw_dot.h"

GS_DW_DOT(gs_s8_dw_3x3s1__wasmdot, 3, 1)
