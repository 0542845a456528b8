/* Depthwise f32 5x5 stride 2 by relaxed madd. */
#define GS_RELAXED
#include "f32_dw.h"

GS_F32_DW(gs_f32_dw_5x5s2__wasmrelaxed, 5, 2)
