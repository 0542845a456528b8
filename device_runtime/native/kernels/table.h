/* Turns the lists MM_LIST, DW_LIST, BINARY_LIST, LUT_LIST and LOOPS_LIST of a machine's table.c into declarations and tables;
 * GS_TABLE is the initialiser of its gs_kernel_table. Included once per table.c, after the lists.
 *   MM_LIST:     M(function, isa, dtype, form, rows, tile_px, x_offset, widen)
 *   MM7_LIST:    the same, kernels whose x must lie in 0..127; may be left out
 *   DW_LIST:     M(function, isa, dtype, window, stride); 0, 0 for any shape
 *   DWPAD_LIST:  M(function, isa, dtype, window, stride, bytes, pack) of kernels that pad by themselves, with what they pack
 *                (0, NULL: nothing); may be left out
 *   BINARY_LIST: M(function, isa, operation)
 *   LUT_LIST:    M(function, isa); may be left out
 *   LOOPS_LIST:  M(gs_loops object of a file of its own, isa) */
#include "../src/plan_format.h"

#if !defined(MM7_LIST)
#define MM7_LIST(M)
#endif
#if !defined(DWPAD_LIST)
#define DWPAD_LIST(M)
#endif

#define GS_DECLARE_MM(fn, isa, dtype, form, rows, tile, offset, widen) void fn(const gs_mm_args *a);
#define GS_ROW_MM(fn, isa, dtype, form, rows, tile, offset, widen) \
  {#fn, GS_ISA_##isa, GS_##dtype, GS_FORM_##form, rows, tile, offset, widen, 8, fn},
#define GS_ROW_MM7(fn, isa, dtype, form, rows, tile, offset, widen) \
  {#fn, GS_ISA_##isa, GS_##dtype, GS_FORM_##form, rows, tile, offset, widen, 7, fn},
#define GS_DECLARE_DW(fn, isa, dtype, window, stride) void fn(const gs_dw_args *a);
#define GS_ROW_DW(fn, isa, dtype, window, stride) {#fn, GS_ISA_##isa, GS_##dtype, window, window, stride, stride, 0, 0, NULL, fn},
#define GS_DECLARE_DWPAD(fn, isa, dtype, window, stride, bytes, pack) void fn(const gs_dw_args *a);
#define GS_ROW_DWPAD(fn, isa, dtype, window, stride, bytes, pack) \
  {#fn, GS_ISA_##isa, GS_##dtype, window, window, stride, stride, 1, bytes, pack, fn},
#define GS_DECLARE_BINARY(fn, isa, op) void fn(const gs_binary_s8_args *a);
#define GS_ROW_BINARY(fn, isa, op) {#fn, GS_ISA_##isa, GS_BIN_##op, fn},
#define GS_DECLARE_LUT(fn, isa) void fn(const uint8_t *x, uint8_t *y, size_t n, const uint8_t table[256]);
#define GS_ROW_LUT(fn, isa) {#fn, GS_ISA_##isa, fn},
#define GS_DECLARE_LOOPS(loops, isa) extern const gs_loops loops;
#define GS_ROW_LOOPS(loops, isa) &loops,

MM_LIST(GS_DECLARE_MM)
MM7_LIST(GS_DECLARE_MM)
DW_LIST(GS_DECLARE_DW)
DWPAD_LIST(GS_DECLARE_DWPAD)
LOOPS_LIST(GS_DECLARE_LOOPS)
BINARY_LIST(GS_DECLARE_BINARY)
#if defined(LUT_LIST)
LUT_LIST(GS_DECLARE_LUT)
#endif

static const gs_mm_kernel gs_rows_mm[] = {MM_LIST(GS_ROW_MM) MM7_LIST(GS_ROW_MM7)};
static const gs_dw_kernel gs_rows_dw[] = {DW_LIST(GS_ROW_DW) DWPAD_LIST(GS_ROW_DWPAD)};
static const gs_loops *const gs_rows_loops[] = {LOOPS_LIST(GS_ROW_LOOPS)};
static const gs_binary_s8_kernel gs_rows_binary[] = {BINARY_LIST(GS_ROW_BINARY)};
#if defined(LUT_LIST)
static const gs_lut_kernel gs_rows_lut[] = {LUT_LIST(GS_ROW_LUT)};
#define GS_LUTS gs_rows_lut, GS_COUNT_OF(gs_rows_lut)
#else
#define GS_LUTS NULL, 0
#endif

#define GS_COUNT_OF(a) ((uint32_t)(sizeof(a) / sizeof *(a)))
#define GS_TABLE                                                                            \
  {gs_rows_mm,  GS_COUNT_OF(gs_rows_mm),  gs_rows_dw,  GS_COUNT_OF(gs_rows_dw),             \
   gs_rows_binary, GS_COUNT_OF(gs_rows_binary), GS_LUTS, gs_rows_loops, GS_COUNT_OF(gs_rows_loops)}
