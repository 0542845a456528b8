/* The best instruction set level that this engine runs rightly, of a build with relaxed SIMD. */
#ifndef GS_WASM_PROBE_H
#define GS_WASM_PROBE_H
#include "../../src/kernels.h"
gs_isa gs_wasm_probe(void);
#endif
