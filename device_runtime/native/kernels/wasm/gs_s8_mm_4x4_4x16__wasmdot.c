/* Sparse int8 in 4x4 blocks by relaxed dot on engines that take x + 128 as an unsigned byte: the loops of __wasmrelaxed, which see the same
 * bytes differently (table.c tells the caller so). */
#include "../../src/kernels.h"

void gs_s8_mm_4x4_4x16__wasmrelaxed(const gs_mm_args *a);

void gs_s8_mm_4x4_4x16__wasmdot(const gs_mm_args *a) { gs_s8_mm_4x4_4x16__wasmrelaxed(a); }
