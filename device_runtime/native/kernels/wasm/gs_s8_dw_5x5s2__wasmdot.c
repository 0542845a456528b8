/* Depthwise int8 5x5 stride 2 by relaxed dot, where the engine takes unsigned bytes. */
#include "s8_dw_dot.h"

void gs_s8_dw_5x5s2__wasmdot(const gs_dw_args *a) { gs_dw_dot_plane(a, 5, 2); }
