/* Sparse int8 in 1x4 blocks times one vector, by vpdpbusd. */
#define GS_AVXVNNI
#include "avx2_dot_vector.h"

GS_TARGET void gs_s8_mm_1x4_4x1__avxvnni(const gs_mm_args *a) { gs_dot256_vector_1x4(a); }
