/* Dense int8 times one vector: sixteen rows at a time, x in 0..127 by vpmaddubsw. */
#include "avx2_dot_vector.h"

GS_TARGET void gs_u7_mm_dense_16x1__avx2(const gs_mm_args *a) { gs_dot256_vector_dense(a); }
