/* The operators by kind. */
#include "ops.h"

#define PLAIN(name_, fn) {.name = name_, .check = gs_##fn##_check, .run = gs_##fn##_run}
#define PREPARED(name_, fn) \
  {.name = name_, .check = gs_##fn##_check, .prepare = gs_##fn##_prepare, .run = gs_##fn##_run}
#define STATEFUL(name_, fn)                                                                     \
  {.name = name_, .check = gs_##fn##_check, .prepare = gs_##fn##_prepare, .run = gs_##fn##_run, \
   .release = gs_##fn##_release}

const gs_op_type gs_op_types[GS_OP_COUNT] = {
    [GS_OP_CONV] = STATEFUL("Conv", conv),
    [GS_OP_DWCONV] = STATEFUL("DepthwiseConv", dwconv),
    [GS_OP_GEMM] = STATEFUL("Gemm", gemm),
    [GS_OP_MATMUL] = PREPARED("MatMul", matmul),
    [GS_OP_BINARY] = PREPARED("Binary", binary),
    [GS_OP_UNARY] = PLAIN("Unary", unary),
    [GS_OP_LUT] = PREPARED("Lut", lut),
    [GS_OP_PRELU] = PLAIN("PRelu", prelu),
    [GS_OP_MAXPOOL] = PREPARED("MaxPool", maxpool),
    [GS_OP_AVGPOOL] = PREPARED("AveragePool", avgpool),
    [GS_OP_REDUCE] = PLAIN("Reduce", reduce),
    [GS_OP_PAD] = STATEFUL("Pad", pad),
    [GS_OP_CONCAT] = PLAIN("Concat", concat),
    [GS_OP_SLICE] = STATEFUL("Slice", slice),
    [GS_OP_RESHAPE] = PLAIN("Reshape", reshape),
    [GS_OP_TRANSPOSE] = PLAIN("Transpose", transpose),
    [GS_OP_SOFTMAX] = PLAIN("Softmax", softmax),
    [GS_OP_RESIZE] = PLAIN("Resize", resize),
    [GS_OP_QUANTIZE] = PLAIN("Quantize", quantize),
    [GS_OP_DEQUANTIZE] = PLAIN("Dequantize", dequantize),
    [GS_OP_LAYOUT] = PLAIN("Layout", layout),
    [GS_OP_LAYERNORM] = PLAIN("LayerNorm", layernorm),
    [GS_OP_EXTERN] = STATEFUL("Extern", extern),
};
