/* Sparse int8 in 1x4 blocks: every row has its own groups, 64 pixels at a time, by vpdpbusd. */
#define GS_AVXVNNI
#include "avx2_dot.h"

GS_TARGET void gs_s8_mm_1x4_4x64__avxvnni(const gs_mm_args *a) { gs_dot256_1x4(a); }
