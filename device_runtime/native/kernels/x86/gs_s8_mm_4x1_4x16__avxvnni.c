/* Sparse int8 in 4x1 blocks: four rows share a list of single columns, by vpdpbusd. */
#define GS_AVXVNNI
#include "avx2_dot.h"

GS_TARGET void gs_s8_mm_4x1_4x16__avxvnni(const gs_mm_args *a) { gs_dot256_4x1(a); }
