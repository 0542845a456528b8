/* Depthwise int8 5x5 stride 2 by relaxed dot, where the engine takes unsigned bytes. */
#include "s8_dw_dot.h"

GS_DW_DOT(gs_s8_dw_5x5s2__wasmdot, 5, 2)
