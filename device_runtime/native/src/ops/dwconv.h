/* Rows of a depthwise convolution, for the operator itself and for a pointwise one that takes them tile by tile. */
#ifndef GS_OPS_DWCONV_H
#define GS_OPS_DWCONV_H
#include "common.h"

/* Output rows [oy0, oy1) of one image and channel group (of the output) of a prepared DWCONV, to out, side by side; out_px pixels
 * may be written there. Every word is xored with flip, which is 0 unless gs_dw_flips. scratch: gs_dw_scratch bytes for so many
 * rows. */
void gs_dw_rows(const gs_node *node, uint32_t image, uint32_t group, uint32_t oy0, uint32_t oy1, void *out, uint32_t out_px,
                gs_word flip, void *scratch);
uint64_t gs_dw_scratch(const gs_node *node, uint32_t rows); /* bytes, a multiple of 64 */
bool gs_dw_flips(const gs_node *node);
#endif
