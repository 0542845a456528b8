/* Depthwise int8 3x3 stride 2, padding by masks. */
#include "avxvnni_dw.h"

GS_TARGET void gs_s8_dw_3x3s2__avxvnni(const gs_dw_args *a) { gs_s8_dw_3x3_vnni256(a, 2); }
