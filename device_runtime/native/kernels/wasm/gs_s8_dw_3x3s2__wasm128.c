/* Depthwise int8 3x3 stride 2. */
#include "s8_dw.h"

void gs_s8_dw_3x3s2__wasm128(const gs_dw_args *a) { gs_s8_dw_3x3w(a, 2); }
