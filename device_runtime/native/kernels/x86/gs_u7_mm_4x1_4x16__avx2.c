/* Sparse int8 in 4x1 blocks: four rows share a list of single columns, x in 0..127 by vpmaddubsw. */
#include "avx2_dot.h"

GS_TARGET void gs_u7_mm_4x1_4x16__avx2(const gs_mm_args *a) { gs_dot256_4x1(a); }
