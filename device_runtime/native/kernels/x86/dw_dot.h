/* Packed weights of int8 depthwise kernels that multiply by vpdpbusd, of 512 and of 256 bits. */
#ifndef GS_X86_DW_DOT_H
#define GS_X86_DW_DOT_H
#include "../../src/kernels.h"

/* What pack makes of one channel group; x is read as x + 128, which the bias takes back. Taps [4d, 4d + 4) of kernel row ky are
 * entry ky*dots + d: byte 4*l + t is tap 4d + t of lane l. */
typedef struct {
  int32_t bias[4];
  float scale[4];
  int8_t w[][16];
} gs_dw_dot_weights;
#define GS_DW_DOT_BYTES(kh, dots) (32u + (kh) * (dots) * 16u)

void gs_s8_dw_pack__avx2(const gs_dw_args *a, void *to);
#endif
