/* Depthwise f32 5x5 stride 1. */
#include "f32_dw.h"

GS_F32_DW(gs_f32_dw_5x5s1__wasm128, 5, 1)
