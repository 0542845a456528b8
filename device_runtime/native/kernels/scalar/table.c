/* The scalar micro-kernels, present in every build. */
#include "scalar.h"

#define PAIR(dtype_, fn, form_)                                                                        \
  {.name = #fn "_4x16__scalar", .isa = GS_ISA_SCALAR, .dtype = dtype_, .form = form_, .rows = 4, .x_bits = 8, \
   .tile_px = GS_PX, .run = fn##_4x16__scalar},                                                        \
      {.name = #fn "_4x1__scalar", .isa = GS_ISA_SCALAR, .dtype = dtype_, .form = form_, .rows = 4, .x_bits = 8, \
       .tile_px = 1, \
       .run = fn##_4x1__scalar}

static const gs_mm_kernel mm[] = {
    PAIR(GS_S8, gs_s8_mm_dense, GS_FORM_DENSE),   PAIR(GS_S8, gs_s8_mm_1x4, GS_FORM_1X4),
    PAIR(GS_S8, gs_s8_mm_4x4, GS_FORM_4X4),       PAIR(GS_S8, gs_s8_mm_4x1, GS_FORM_4X1),
    PAIR(GS_F32, gs_f32_mm_dense, GS_FORM_DENSE), PAIR(GS_F32, gs_f32_mm_1x4, GS_FORM_1X4),
    PAIR(GS_F32, gs_f32_mm_4x4, GS_FORM_4X4),
};
static const gs_dw_kernel dw[] = {
    {.name = "gs_s8_dw_any__scalar", .isa = GS_ISA_SCALAR, .dtype = GS_S8, .run = gs_s8_dw_any__scalar},
    {.name = "gs_f32_dw_any__scalar", .isa = GS_ISA_SCALAR, .dtype = GS_F32, .run = gs_f32_dw_any__scalar},
};
static const gs_binary_s8_kernel binary[] = {
    {.name = "gs_s8_add__scalar", .isa = GS_ISA_SCALAR, .op = GS_BIN_ADD, .run = gs_s8_add__scalar},
    {.name = "gs_s8_mul__scalar", .isa = GS_ISA_SCALAR, .op = GS_BIN_MUL, .run = gs_s8_mul__scalar},
};
static const gs_lut_kernel lut[] = {
    {.name = "gs_lut__scalar", .isa = GS_ISA_SCALAR, .run = gs_lut__scalar},
};
extern const gs_loops gs_loops__scalar;
static const gs_loops *const loops[] = {&gs_loops__scalar};

const gs_kernel_table gs_table_scalar = {
    .mm = mm,   .n_mm = sizeof mm / sizeof *mm,
    .dw = dw,   .n_dw = sizeof dw / sizeof *dw,
    .binary = binary, .n_binary = sizeof binary / sizeof *binary,
    .lut = lut, .n_lut = sizeof lut / sizeof *lut,
    .loops = loops, .n_loops = sizeof loops / sizeof *loops,
};
