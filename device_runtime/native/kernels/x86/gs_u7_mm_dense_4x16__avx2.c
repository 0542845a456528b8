/* Dense int8: four rows times sixteen pixels, x in 0..127 by vpmaddubsw. */
#include "avx2_dot.h"

GS_TARGET void gs_u7_mm_dense_4x16__avx2(const gs_mm_args *a) { gs_dot256_dense(a); }
