/* Every operator's functions; ops/table.c lists them by kind. */
#ifndef GS_OPS_H
#define GS_OPS_H
#include "../core.h"

#define GS_OP(name)                                          \
  gs_status gs_##name##_check(const gs_op *op, gs_error *error); \
  gs_status gs_##name##_run(gs_session *s, gs_node *node, gs_error *error);
#define GS_OP_PREPARED(name) \
  GS_OP(name)                \
  gs_status gs_##name##_prepare(gs_session *s, gs_node *node, gs_error *error);
#define GS_OP_STATEFUL(name) \
  GS_OP_PREPARED(name)       \
  void gs_##name##_release(gs_node *node);

GS_OP_STATEFUL(conv)
GS_OP_STATEFUL(dwconv)
GS_OP_STATEFUL(gemm)
GS_OP_PREPARED(matmul)
GS_OP_PREPARED(binary)
GS_OP(unary)
GS_OP_PREPARED(lut)
GS_OP(prelu)
GS_OP_PREPARED(maxpool)
GS_OP_PREPARED(avgpool)
GS_OP(reduce)
GS_OP_STATEFUL(pad)
GS_OP(concat)
GS_OP_STATEFUL(slice)
GS_OP(reshape)
GS_OP(transpose)
GS_OP(softmax)
GS_OP(resize)
GS_OP(quantize)
GS_OP(dequantize)
GS_OP(layout)
GS_OP(layernorm)
GS_OP_STATEFUL(extern)
#endif
