/* The plain loops for wasm128. */
#include "../loops.h"

GS_LOOPS(gs_loops__wasm128, GS_ISA_WASM128, NULL)
