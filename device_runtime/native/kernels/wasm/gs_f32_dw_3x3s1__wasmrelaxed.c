/* Depthwise f32 3x3 stride 1 by relaxed madd. */
#define GS_RELAXED
#include "f32_dw.h"

GS_F32_DW(gs_f32_dw_3x3s1__wasmrelaxed, 3, 1)
