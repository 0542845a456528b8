/* Dense int8: four rows times sixteen pixels, by vpdpbusd. */
#define GS_AVXVNNI
#include "avx2_dot.h"

GS_TARGET void gs_s8_mm_dense_4x16__avxvnni(const gs_mm_args *a) { gs_dot256_dense(a); }
