/* Depthwise int8 3x3 stride 2 by relaxed dot, where the engine takes unsigned bytes. */
#include "s8_dw_dot.h"

GS_DW_DOT(gs_s8_dw_3x3s2__wasmdot, 3, 2)
