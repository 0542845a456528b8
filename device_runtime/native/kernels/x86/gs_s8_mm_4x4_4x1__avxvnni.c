/* Sparse int8 in 4x4 blocks times one vector, by vpdpbusd. */
#define GS_AVXVNNI
#include "avx2_dot_vector.h"

GS_TARGET void gs_s8_mm_4x4_4x1__avxvnni(const gs_mm_args *a) { gs_dot256_vector_4x4(a); }
