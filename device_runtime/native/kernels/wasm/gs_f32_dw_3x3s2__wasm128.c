/* Depthwise f32 3x3 stride 2. */
#include "f32_dw.h"

GS_F32_DW(gs_f32_dw_3x3s2__wasm128, 3, 2)
