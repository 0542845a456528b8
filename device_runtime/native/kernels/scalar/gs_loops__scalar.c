/* The plain loops for scalar. */
#include "../loops.h"

GS_LOOPS(gs_loops__scalar, GS_ISA_SCALAR, NULL)
