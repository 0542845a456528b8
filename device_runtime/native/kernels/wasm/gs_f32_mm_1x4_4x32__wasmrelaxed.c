/* Unstructured sparse f32 by relaxed madd: every row has its own columns; 32 pixels at a time, then 16. */
#define GS_RELAXED
#include "f32_mm.h"

GS_F32_ROWS(gs_f32_mm_1x4_4x32__wasmrelaxed)
