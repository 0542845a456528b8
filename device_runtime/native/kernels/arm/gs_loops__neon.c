/* The plain loops for neon. */
#include "../loops.h"

GS_LOOPS(gs_loops__neon, GS_ISA_NEON, NULL)
