/* Depthwise int8 5x5 stride 1. */
#include "avx512_dw5.h"

GS_INLINE void strip(const gs_dw_args *a, uint32_t ox, const gs_dw512 *k, const int nq) { gs_dw512_5x5(a, ox, k, nq, 1); }

GS_TARGET void gs_s8_dw_5x5s1__avx512vnni(const gs_dw_args *a) { GS_FOR_STRIPS_512(strip) }
