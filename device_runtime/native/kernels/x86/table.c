/* The x86 micro-kernels: AVX2, AVX-VNNI and AVX-512 VNNI. */
#include "../../src/kernels.h"
#include "dw_dot.h"

#define MM_LIST(M)                                                             \
  M(gs_s8_mm_dense_4x64__avx2, AVX2, S8, DENSE, 4, 64, 0, 1)                   \
  M(gs_s8_mm_1x4_4x64__avx2, AVX2, S8, 1X4, 4, 64, 0, 1)                       \
  M(gs_s8_mm_4x4_4x64__avx2, AVX2, S8, 4X4, 4, 64, 0, 1)                       \
  M(gs_s8_mm_4x1_4x64__avx2, AVX2, S8, 4X1, 4, 64, 0, 1)                       \
  M(gs_s8_mm_dense_16x1__avx2, AVX2, S8, DENSE, 16, 1, 0, 0)                   \
  M(gs_s8_mm_1x4_4x1__avx2, AVX2, S8, 1X4, 4, 1, 0, 0)                         \
  M(gs_s8_mm_4x4_4x1__avx2, AVX2, S8, 4X4, 4, 1, 0, 0)                         \
  M(gs_s8_mm_4x1_4x1__avx2, AVX2, S8, 4X1, 4, 1, 0, 0)                         \
  M(gs_f32_mm_dense_4x64__avx2, AVX2, F32, DENSE, 4, 208, 0, 0)                \
  M(gs_f32_mm_1x4_64x64__avx2, AVX2, F32, 1X4, 64, 208, 0, 0)                   \
  M(gs_f32_mm_4x4_4x64__avx2, AVX2, F32, 4X4, 4, 64, 0, 0)                     \
  M(gs_f32_mm_dense_16x1__avx2, AVX2, F32, DENSE, 16, 1, 0, 0)                 \
  M(gs_f32_mm_1x4_4x1__avx2, AVX2, F32, 1X4, 4, 1, 0, 0)                       \
  M(gs_f32_mm_4x4_4x1__avx2, AVX2, F32, 4X4, 4, 1, 0, 0)                       \
  M(gs_s8_mm_dense_4x16__avxvnni, AVXVNNI, S8, DENSE, 4, 64, 128, 0)           \
  M(gs_s8_mm_1x4_4x64__avxvnni, AVXVNNI, S8, 1X4, 4, 64, 128, 0)               \
  M(gs_s8_mm_4x4_4x16__avxvnni, AVXVNNI, S8, 4X4, 4, 64, 128, 0)               \
  M(gs_s8_mm_4x1_4x16__avxvnni, AVXVNNI, S8, 4X1, 4, 64, 128, 0)               \
  M(gs_s8_mm_dense_16x1__avxvnni, AVXVNNI, S8, DENSE, 16, 1, 128, 0)           \
  M(gs_s8_mm_1x4_4x1__avxvnni, AVXVNNI, S8, 1X4, 4, 1, 128, 0)                 \
  M(gs_s8_mm_4x4_4x1__avxvnni, AVXVNNI, S8, 4X4, 4, 1, 128, 0)                 \
  M(gs_s8_mm_4x1_4x1__avxvnni, AVXVNNI, S8, 4X1, 4, 1, 128, 0)                 \
  M(gs_s8_mm_dense_4x64__avx512vnni, AVX512VNNI, S8, DENSE, 4, 64, 128, GS_TAME)     \
  M(gs_s8_mm_1x4_64x128__avx512vnni, AVX512VNNI, S8, 1X4, 64, 128, 128, GS_SORTED | GS_TAME) \
  M(gs_s8_mm_4x4_4x64__avx512vnni, AVX512VNNI, S8, 4X4, 4, 64, 128, GS_TAME)         \
  M(gs_s8_mm_4x1_4x64__avx512vnni, AVX512VNNI, S8, 4X1, 4, 64, 128, GS_TAME)         \
  M(gs_s8_mm_dense_16x1__avx512vnni, AVX512VNNI, S8, DENSE, 16, 1, 128, 0)     \
  M(gs_s8_mm_1x4_4x1__avx512vnni, AVX512VNNI, S8, 1X4, 4, 1, 128, 0)           \
  M(gs_s8_mm_4x4_4x1__avx512vnni, AVX512VNNI, S8, 4X4, 4, 1, 128, 0)           \
  M(gs_s8_mm_4x1_4x1__avx512vnni, AVX512VNNI, S8, 4X1, 4, 1, 128, 0)           \
  M(gs_f32_mm_dense_4x64__avx512vnni, AVX512VNNI, F32, DENSE, 4, 208, 0, 0)    \
  M(gs_f32_mm_1x4_64x64__avx512vnni, AVX512VNNI, F32, 1X4, 64, 208, 0, 0)       \
  M(gs_f32_mm_4x4_4x64__avx512vnni, AVX512VNNI, F32, 4X4, 4, 208, 0, 0)        \
  M(gs_f32_mm_dense_16x1__avx512vnni, AVX512VNNI, F32, DENSE, 16, 1, 0, 0)     \
  M(gs_f32_mm_1x4_4x1__avx512vnni, AVX512VNNI, F32, 1X4, 4, 1, 0, 0)           \
  M(gs_f32_mm_4x4_4x1__avx512vnni, AVX512VNNI, F32, 4X4, 4, 1, 0, 0)

#define MM7_LIST(M)                                                            \
  M(gs_u7_mm_dense_4x16__avx2, AVX2, S8, DENSE, 4, 208, 0, 0)                  \
  M(gs_u7_mm_1x4_4x64__avx2, AVX2, S8, 1X4, 4, 208, 0, 0)                      \
  M(gs_u7_mm_4x4_4x16__avx2, AVX2, S8, 4X4, 4, 208, 0, 0)                      \
  M(gs_u7_mm_4x1_4x16__avx2, AVX2, S8, 4X1, 4, 208, 0, 0)                      \
  M(gs_u7_mm_dense_16x1__avx2, AVX2, S8, DENSE, 16, 1, 0, 0)                   \
  M(gs_u7_mm_1x4_4x1__avx2, AVX2, S8, 1X4, 4, 1, 0, 0)                         \
  M(gs_u7_mm_4x4_4x1__avx2, AVX2, S8, 4X4, 4, 1, 0, 0)                         \
  M(gs_u7_mm_4x1_4x1__avx2, AVX2, S8, 4X1, 4, 1, 0, 0)

#define DW_LIST(M)                                             \
  M(gs_s8_dw_any__avx2, AVX2, S8, 0, 0)                        \
  M(gs_f32_dw_any__avx2, AVX2, F32, 0, 0)                      \
  M(gs_s8_dw_any__avx512vnni, AVX512VNNI, S8, 0, 0)            \
  M(gs_f32_dw_any__avx512vnni, AVX512VNNI, F32, 0, 0)

#define DWPAD_LIST(M)                                                                                               \
  M(gs_s8_dw_3x3s1__avx2, AVX2, S8, 3, 1, 0, NULL)                                                                   \
  M(gs_s8_dw_3x3s2__avx2, AVX2, S8, 3, 2, 0, NULL)                                                                   \
  M(gs_f32_dw_3x3s1__avx2, AVX2, F32, 3, 1, 0, NULL)                                                                 \
  M(gs_f32_dw_3x3s2__avx2, AVX2, F32, 3, 2, 0, NULL)                                                                 \
  M(gs_f32_dw_5x5s1__avx2, AVX2, F32, 5, 1, 0, NULL)                                                                 \
  M(gs_f32_dw_5x5s2__avx2, AVX2, F32, 5, 2, 0, NULL)                                                                 \
  M(gs_s8_dw_3x3s1__avxvnni, AVXVNNI, S8, 3, 1, GS_DW_DOT_BYTES(3, 1), gs_s8_dw_pack__avx2)                          \
  M(gs_s8_dw_3x3s2__avxvnni, AVXVNNI, S8, 3, 2, GS_DW_DOT_BYTES(3, 1), gs_s8_dw_pack__avx2)                          \
  M(gs_s8_dw_3x3s1__avx512vnni, AVX512VNNI, S8, 3, 1, GS_DW_DOT_BYTES(3, 1), gs_s8_dw_pack__avx2)              \
  M(gs_s8_dw_3x3s2__avx512vnni, AVX512VNNI, S8, 3, 2, GS_DW_DOT_BYTES(3, 1), gs_s8_dw_pack__avx2)              \
  M(gs_s8_dw_5x5s1__avx512vnni, AVX512VNNI, S8, 5, 1, GS_DW_DOT_BYTES(5, 2), gs_s8_dw_pack__avx2)              \
  M(gs_s8_dw_5x5s2__avx512vnni, AVX512VNNI, S8, 5, 2, GS_DW_DOT_BYTES(5, 2), gs_s8_dw_pack__avx2)              \
  M(gs_f32_dw_3x3s1__avx512vnni, AVX512VNNI, F32, 3, 1, 0, NULL)                                                    \
  M(gs_f32_dw_3x3s2__avx512vnni, AVX512VNNI, F32, 3, 2, 0, NULL)                                                    \
  M(gs_f32_dw_5x5s1__avx512vnni, AVX512VNNI, F32, 5, 1, 0, NULL)                                                    \
  M(gs_f32_dw_5x5s2__avx512vnni, AVX512VNNI, F32, 5, 2, 0, NULL)

#define BINARY_LIST(M)                              \
  M(gs_s8_add_8__avx2, AVX2, ADD)                   \
  M(gs_s8_mul_8__avx2, AVX2, MUL)                   \
  M(gs_s8_add_16__avx512vnni, AVX512VNNI, ADD)      \
  M(gs_s8_mul_16__avx512vnni, AVX512VNNI, MUL)

#define LUT_LIST(M) M(gs_lut_64__avx512vnni, AVX512VNNI)

#define LOOPS_LIST(M) M(gs_loops__avx2, AVX2) M(gs_loops__avx512vnni, AVX512VNNI)

#include "../table.h"

const gs_kernel_table gs_table_x86 = GS_TABLE;
