/* The plain loops for avx2. */
#include "../loops.h"

GS_LOOPS(gs_loops__avx2, GS_ISA_AVX2, NULL)
