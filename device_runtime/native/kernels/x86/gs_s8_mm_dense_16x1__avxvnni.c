/* Dense int8 times one vector: sixteen rows at a time, by vpdpbusd. */
#define GS_AVXVNNI
#include "avx2_dot_vector.h"

GS_TARGET void gs_s8_mm_dense_16x1__avxvnni(const gs_mm_args *a) { gs_dot256_vector_dense(a); }
