/* For tests and tools/bench_kernels.py, no part of the public interface: single micro-kernels on raw operands, what dispatch
 * picks, and running out of memory. Kernels are numbered through the machine's table, then the scalar one; within a table mm,
 * dw, binary, lut, loops. Functions with a status return GS_E_ARGUMENT when kernel i is of another family. */
#ifndef GS_TEST_ACCESS_H
#define GS_TEST_ACCESS_H
#include "kernels.h"

/* alloc.c: k more allocations succeed and all after them fail; negative: none fails. */
GS_API void gs_test_fail_alloc_after(long k);

GS_API uint32_t gs_test_kernel_count(void);
GS_API int gs_test_isa_runs(int isa); /* whether this machine runs kernels of that instruction set */
GS_API const char *gs_test_kernel_name(uint32_t i);
/* Names of what the pick functions choose; NULL when there is no such kernel. */
GS_API const char *gs_test_pick_mm(int isa, int dtype, int form, int gemv, uint32_t x_bits);
GS_API const char *gs_test_pick_dw(int isa, int dtype, uint32_t kernel, uint32_t stride, uint32_t dilation);

/* info: family (0 mm, 1 dw, 2 binary, 3 lut, 4 loops), isa, then of mm: dtype, form, rows, tile_px, x_offset, widen, x_bits; of dw:
 * dtype, kh, kw, sh, sw, pads, packed_bytes; of binary: op. */
#define GS_TEST_INFO 9
GS_API gs_status gs_test_kernel_info(uint32_t i, uint32_t info[GS_TEST_INFO]);
/* The loops of kernel i; NULL when it is of another family. */
GS_API const gs_loops *gs_test_loops(uint32_t i);
GS_API gs_status gs_test_mm_pack(uint32_t i, const gs_matrix *m, const void *bias, const float *scale, size_t x_stride,
                                 gs_packed *out);
GS_API void gs_test_packed_free(gs_packed *p);
GS_API size_t gs_test_packed_size(void); /* of gs_packed, for callers that lay it out themselves */
/* Runs tiles of a->npx pixels: x moves on by x_step bytes a tile, y by npx pixels. */
GS_API gs_status gs_test_mm_run(uint32_t i, const gs_mm_args *a, uint32_t tiles, size_t x_step);
/* A kernel that packs fills `packed` while a->packed is NULL, and runs when it is given. */
GS_API gs_status gs_test_dw_run(uint32_t i, const gs_dw_args *a, void *packed);
GS_API gs_status gs_test_binary_run(uint32_t i, const gs_binary_s8_args *a);
GS_API gs_status gs_test_lut_run(uint32_t i, const uint8_t *x, uint8_t *y, size_t n, const uint8_t *table);
#endif
