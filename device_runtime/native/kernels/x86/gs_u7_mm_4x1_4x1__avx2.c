/* Sparse int8 in 4x1 blocks times one vector, x in 0..127 by vpmaddubsw. */
#include "avx2_dot_vector.h"

GS_TARGET void gs_u7_mm_4x1_4x1__avx2(const gs_mm_args *a) { gs_dot256_vector_4x1(a); }
