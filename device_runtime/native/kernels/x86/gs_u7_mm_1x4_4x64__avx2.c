/* Sparse int8 in 1x4 blocks: every row has its own groups, 64 pixels at a time, x in 0..127 by vpmaddubsw. */
#include "avx2_dot.h"

GS_TARGET void gs_u7_mm_1x4_4x64__avx2(const gs_mm_args *a) { gs_dot256_1x4(a); }
