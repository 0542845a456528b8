/* Depthwise int8 3x3 stride 2 by relaxed dot, where the engine takes unsigned bytes. */
#include "s8_dw_dot.h"

void gs_s8_dw_3x3s2__wasmdot(const gs_dw_args *a) { gs_dw_dot_plane(a, 3, 2); }
