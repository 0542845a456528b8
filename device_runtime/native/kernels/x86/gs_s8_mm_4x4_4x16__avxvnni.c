/* Sparse int8 in 4x4 blocks: four rows share a list of groups, by vpdpbusd. */
#define GS_AVXVNNI
#include "avx2_dot.h"

GS_TARGET void gs_s8_mm_4x4_4x16__avxvnni(const gs_mm_args *a) { gs_dot256_4x4(a); }
