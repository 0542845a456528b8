/* Depthwise int8 3x3 stride 2. */
#include "s8_dw.h"

GS_S8_DW_3X3(gs_s8_dw_3x3s2__wasm128, 2)
