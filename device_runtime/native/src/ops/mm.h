/* What CONV and GEMM share: choosing a micro-kernel for stored weights, packing for it, sizes of tiles. */
#ifndef GS_OPS_MM_H
#define GS_OPS_MM_H
#include "common.h"

/* The best kernel for the operator's stored blocks; falls back to rows of their own when a shared form has none.
 * products: of one sum, when all are dense. */
gs_status gs_choose_mm(const gs_session *s, const gs_op *op, int gemv, uint64_t products, const gs_mm_kernel **kernel,
                       gs_error *error);

/* Decodes, closes up where told, packs (groups: one matrix of rows/groups rows each) and fills the node's numbers for reports, given the
 * number of output pixels of one run. packed has room for `groups`. */
gs_status gs_pack_weights(gs_node *node, const gs_mm_kernel *k, uint32_t rows, uint32_t kh, uint32_t kw, uint32_t cin,
                          uint32_t groups, size_t x_stride, uint64_t pixels, bool close_up, gs_packed *packed, gs_error *error);

/* Whether the lanes that one to three input channels leave empty can be closed up, so that a first convolution multiplies no
 * padding: three channels of 3x3 taps are seven groups of four then, not nine. */
bool gs_can_close_up(const gs_mm_kernel *k, const gs_op *op, uint32_t taps, uint32_t cin, uint32_t groups);

/* Pixels of a tile for a kernel, given words of x per pixel, so that a gathered tile stays near the core. */
uint32_t gs_tile_pixels(const gs_session *s, const gs_mm_kernel *k, uint64_t words_per_pixel, uint32_t pixels);

/* x as a kernel reads it is x ^ flip. */
static inline gs_word gs_flip_word(const gs_mm_kernel *k) { return k->x_offset ? 0x80808080u : 0; }

/* Pixels between the groups of a gathered tile: an odd number of vectors, for power-of-two strides fall into few cache sets. */
static inline uint32_t gs_tile_row(uint32_t tile) { return (tile + GS_PX - 1) / GS_PX * GS_PX | GS_PX; }

/* Runs a kernel with GS_WIDE_X on a tile of words: GS_WIDE_PX pixels at a time are widened into `wide`, which has room for
 * GS_WIDE_PX * 8 bytes per group. a->x and a->x_stride are those of the words; offsets were packed for GS_WIDE_PX * 8. */
#define GS_WIDE_PX 32u
void gs_run_wide(const gs_mm_kernel *k, const gs_mm_args *a, int16_t *wide);

/* How many ranges of row blocks each tile is cut into, so that few tiles still feed all threads. Every range gathers the tile anew:
 * no more than needed. */
static inline uint32_t gs_row_splits(const gs_session *s, uint64_t tiles, uint32_t row_blocks) {
  uint32_t threads = gs_threads(s);
  if (threads == 1 || tiles % threads == 0 || tiles >= 4ull * threads) return 1;
  uint32_t splits = tiles > threads ? 2 : (uint32_t)((threads + tiles - 1) / tiles);
  return splits < row_blocks ? splits : row_blocks;
}
#endif
