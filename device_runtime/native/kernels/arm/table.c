/* The ARM micro-kernels: NEON for armv7 and aarch64, SDOT and table lookup for aarch64 alone. */
#include "neon_dw.h"

#define MM_NEON(M) \
  M(gs_s8_mm_dense_4x16__neon, NEON, S8, DENSE, 4, 16, 0, 0) \
  M(gs_s8_mm_1x4_4x32__neon, NEON, S8, 1X4, 4, 32, 0, 0) \
  M(gs_s8_mm_4x4_4x16__neon, NEON, S8, 4X4, 4, 16, 0, 0) \
  M(gs_s8_mm_4x1_4x16__neon, NEON, S8, 4X1, 4, 16, 0, 0) \
  M(gs_s8_mm_dense_8x1__neon, NEON, S8, DENSE, 8, 1, 0, 0) \
  M(gs_s8_mm_1x4_4x1__neon, NEON, S8, 1X4, 4, 1, 0, 0) \
  M(gs_s8_mm_4x4_4x1__neon, NEON, S8, 4X4, 4, 1, 0, 0) \
  M(gs_s8_mm_4x1_4x1__neon, NEON, S8, 4X1, 4, 1, 0, 0) \
  M(gs_f32_mm_dense_4x16__neon, NEON, F32, DENSE, 4, 16, 0, 0) \
  M(gs_f32_mm_1x4_4x80__neon, NEON, F32, 1X4, 4, 80, 0, 0) \
  M(gs_f32_mm_4x4_4x16__neon, NEON, F32, 4X4, 4, 16, 0, 0) \
  M(gs_f32_mm_dense_8x1__neon, NEON, F32, DENSE, 8, 1, 0, 0) \
  M(gs_f32_mm_1x4_4x1__neon, NEON, F32, 1X4, 4, 1, 0, 0) \
  M(gs_f32_mm_4x4_4x1__neon, NEON, F32, 4X4, 4, 1, 0, 0)

#if defined(__aarch64__)
#define MM_NEONDOT(M) \
  M(gs_s8_mm_dense_4x16__neondot, NEONDOT, S8, DENSE, 4, 16, 0, 0) \
  M(gs_s8_mm_1x4_4x80__neondot, NEONDOT, S8, 1X4, 4, 80, 0, 0) \
  M(gs_s8_mm_4x4_4x16__neondot, NEONDOT, S8, 4X4, 4, 16, 0, 0) \
  M(gs_s8_mm_4x1_4x16__neondot, NEONDOT, S8, 4X1, 4, 16, 0, 0) \
  M(gs_s8_mm_dense_16x1__neondot, NEONDOT, S8, DENSE, 16, 1, 0, 0) \
  M(gs_s8_mm_1x4_4x1__neondot, NEONDOT, S8, 1X4, 4, 1, 0, 0) \
  M(gs_s8_mm_4x4_4x1__neondot, NEONDOT, S8, 4X4, 4, 1, 0, 0) \
  M(gs_s8_mm_4x1_4x1__neondot, NEONDOT, S8, 4X1, 4, 1, 0, 0)
#define LUT_LIST(M) M(gs_lut_16__neon, NEON)
#else
#define MM_NEONDOT(M)
#endif
#define MM_LIST(M) MM_NEON(M) MM_NEONDOT(M)

#define DWPAD_NEON(M) \
  M(gs_s8_dw_3x3s1__neon, NEON, S8, 3, 1, GS_DWN_BYTES(9), gs_s8_dw_pack__neon) \
  M(gs_s8_dw_3x3s2__neon, NEON, S8, 3, 2, GS_DWN_BYTES(9), gs_s8_dw_pack__neon) \
  M(gs_s8_dw_5x5s1__neon, NEON, S8, 5, 1, GS_DWN_BYTES(25), gs_s8_dw_pack__neon) \
  M(gs_s8_dw_5x5s2__neon, NEON, S8, 5, 2, GS_DWN_BYTES(25), gs_s8_dw_pack__neon) \
  M(gs_f32_dw_3x3s1__neon, NEON, F32, 3, 1, 0, NULL) \
  M(gs_f32_dw_3x3s2__neon, NEON, F32, 3, 2, 0, NULL) \
  M(gs_f32_dw_5x5s1__neon, NEON, F32, 5, 1, 0, NULL) \
  M(gs_f32_dw_5x5s2__neon, NEON, F32, 5, 2, 0, NULL)

#if defined(__aarch64__)
#define DWPAD_NEONDOT(M) \
  M(gs_s8_dw_3x3s1__neondot, NEONDOT, S8, 3, 1, GS_DWDOT_BYTES(3, 1), gs_s8_dw_pack__neondot) \
  M(gs_s8_dw_3x3s2__neondot, NEONDOT, S8, 3, 2, GS_DWDOT_BYTES(3, 1), gs_s8_dw_pack__neondot) \
  M(gs_s8_dw_5x5s1__neondot, NEONDOT, S8, 5, 1, GS_DWDOT_BYTES(5, 2), gs_s8_dw_pack__neondot) \
  M(gs_s8_dw_5x5s2__neondot, NEONDOT, S8, 5, 2, GS_DWDOT_BYTES(5, 2), gs_s8_dw_pack__neondot)
#else
#define DWPAD_NEONDOT(M)
#endif
#define DWPAD_LIST(M) DWPAD_NEON(M) DWPAD_NEONDOT(M)

#define DW_LIST(M) \
  M(gs_s8_dw_any__neon, NEON, S8, 0, 0) \
  M(gs_f32_dw_any__neon, NEON, F32, 0, 0)

#define BINARY_LIST(M) \
  M(gs_s8_add_8__neon, NEON, ADD) \
  M(gs_s8_mul_8__neon, NEON, MUL)

#define LOOPS_LIST(M) M(gs_loops__neon, NEON)

#include "../table.h"

const gs_kernel_table gs_table_arm = GS_TABLE;
