/* The WASM micro-kernels: SIMD128, and relaxed SIMD where the module is built with it. Its int8 dot product serves x in 0..127 on
 * every engine, and all of int8 where probe.c finds that the engine takes unsigned bytes. */
#include "../../src/kernels.h"

#define WIDE (GS_WIDE_W | GS_WIDE_X)
#define MM_SIMD128(M) \
  M(gs_s8_mm_dense_4x16__wasm128, WASM128, S8, DENSE, 4, 128, 0, WIDE) \
  M(gs_s8_mm_1x4_4x32__wasm128, WASM128, S8, 1X4, 4, 32, 0, WIDE) \
  M(gs_s8_mm_4x4_4x16__wasm128, WASM128, S8, 4X4, 4, 32, 0, WIDE) \
  M(gs_s8_mm_4x1_4x16__wasm128, WASM128, S8, 4X1, 4, 32, 0, WIDE) \
  M(gs_s8_mm_dense_8x1__wasm128, WASM128, S8, DENSE, 8, 1, 0, 0) \
  M(gs_s8_mm_1x4_4x1__wasm128, WASM128, S8, 1X4, 4, 1, 0, 0) \
  M(gs_s8_mm_4x4_4x1__wasm128, WASM128, S8, 4X4, 4, 1, 0, 0) \
  M(gs_s8_mm_4x1_4x1__wasm128, WASM128, S8, 4X1, 4, 1, 0, 0) \
  M(gs_f32_mm_dense_4x16__wasm128, WASM128, F32, DENSE, 4, 64, 0, 0) \
  M(gs_f32_mm_1x4_4x32__wasm128, WASM128, F32, 1X4, 4, 32, 0, 0) \
  M(gs_f32_mm_4x4_4x16__wasm128, WASM128, F32, 4X4, 4, 16, 0, 0) \
  M(gs_f32_mm_dense_8x1__wasm128, WASM128, F32, DENSE, 8, 1, 0, 0) \
  M(gs_f32_mm_1x4_4x1__wasm128, WASM128, F32, 1X4, 4, 1, 0, 0) \
  M(gs_f32_mm_4x4_4x1__wasm128, WASM128, F32, 4X4, 4, 1, 0, 0)

#if defined(__wasm_relaxed_simd__)
#define MM_RELAXED(M) \
  M(gs_s8_mm_dense_4x16__wasmdot, WASMDOT, S8, DENSE, 4, 128, 128, GS_TAME) \
  M(gs_s8_mm_1x4_4x32__wasmdot, WASMDOT, S8, 1X4, 4, 32, 128, GS_TAME) \
  M(gs_s8_mm_4x4_4x16__wasmdot, WASMDOT, S8, 4X4, 4, 32, 128, GS_TAME) \
  M(gs_s8_mm_4x1_4x16__wasmdot, WASMDOT, S8, 4X1, 4, 32, 128, GS_TAME) \
  M(gs_f32_mm_dense_4x16__wasmrelaxed, WASMRELAXED, F32, DENSE, 4, 64, 0, 0) \
  M(gs_f32_mm_1x4_4x32__wasmrelaxed, WASMRELAXED, F32, 1X4, 4, 32, 0, 0) \
  M(gs_f32_mm_4x4_4x16__wasmrelaxed, WASMRELAXED, F32, 4X4, 4, 16, 0, 0)
#define MM7_LIST(M) \
  M(gs_s8_mm_dense_4x16__wasmrelaxed, WASMRELAXED, S8, DENSE, 4, 128, 0, GS_TAME) \
  M(gs_s8_mm_1x4_4x32__wasmrelaxed, WASMRELAXED, S8, 1X4, 4, 32, 0, GS_TAME) \
  M(gs_s8_mm_4x4_4x16__wasmrelaxed, WASMRELAXED, S8, 4X4, 4, 32, 0, GS_TAME) \
  M(gs_s8_mm_4x1_4x16__wasmrelaxed, WASMRELAXED, S8, 4X1, 4, 32, 0, GS_TAME)
#else
#define MM_RELAXED(M)
#endif
#define MM_LIST(M) MM_SIMD128(M) MM_RELAXED(M)

#define DW_SIMD128(M) \
  M(gs_s8_dw_3x3s1__wasm128, WASM128, S8, 3, 1) \
  M(gs_s8_dw_3x3s2__wasm128, WASM128, S8, 3, 2) \
  M(gs_s8_dw_any__wasm128, WASM128, S8, 0, 0) \
  M(gs_f32_dw_3x3s1__wasm128, WASM128, F32, 3, 1) \
  M(gs_f32_dw_3x3s2__wasm128, WASM128, F32, 3, 2) \
  M(gs_f32_dw_5x5s1__wasm128, WASM128, F32, 5, 1) \
  M(gs_f32_dw_5x5s2__wasm128, WASM128, F32, 5, 2) \
  M(gs_f32_dw_any__wasm128, WASM128, F32, 0, 0)
#if defined(__wasm_relaxed_simd__)
#define DW_RELAXED(M) \
  M(gs_f32_dw_3x3s1__wasmrelaxed, WASMRELAXED, F32, 3, 1) \
  M(gs_f32_dw_3x3s2__wasmrelaxed, WASMRELAXED, F32, 3, 2) \
  M(gs_f32_dw_5x5s1__wasmrelaxed, WASMRELAXED, F32, 5, 1) \
  M(gs_f32_dw_5x5s2__wasmrelaxed, WASMRELAXED, F32, 5, 2)
void gs_s8_dw_pack__wasmdot(const gs_dw_args *a, void *to);
#define DOT_BYTES (22 * 16) /* of gs_dw_dot */
#define DWPAD_LIST(M) \
  M(gs_s8_dw_3x3s1__wasmdot, WASMDOT, S8, 3, 1, DOT_BYTES, gs_s8_dw_pack__wasmdot) \
  M(gs_s8_dw_3x3s2__wasmdot, WASMDOT, S8, 3, 2, DOT_BYTES, gs_s8_dw_pack__wasmdot) \
  M(gs_s8_dw_5x5s1__wasmdot, WASMDOT, S8, 5, 1, DOT_BYTES, gs_s8_dw_pack__wasmdot) \
  M(gs_s8_dw_5x5s2__wasmdot, WASMDOT, S8, 5, 2, DOT_BYTES, gs_s8_dw_pack__wasmdot)
#else
#define DW_RELAXED(M)
#endif
#define DW_LIST(M) DW_SIMD128(M) DW_RELAXED(M)

#define BINARY_LIST(M) \
  M(gs_s8_add_8__wasm128, WASM128, ADD) \
  M(gs_s8_mul_8__wasm128, WASM128, MUL)

#define LOOPS_LIST(M) M(gs_loops__wasm128, WASM128)

#include "../table.h"

const gs_kernel_table gs_table_wasm = GS_TABLE;
