/* Tiles of output pixels, gathered for the window of a convolution. */
#ifndef GS_OPS_GATHER_H
#define GS_OPS_GATHER_H
#include "common.h"

typedef struct {
  const gs_loops *loops;
  const gs_word *src; /* first channel group of the image */
  uint32_t height, width, pstride, groups, out_width;
  gs_window window;
  gs_word pad, flip;
  const uint16_t *inside; /* of gs_inside_fill, or NULL */
  uint32_t inside_row;    /* its entries per tap */
  gs_word *phases;        /* gs_phase_words of scratch, for a window of stride two that has `inside` */
} gs_gather;

/* A window that moves one pixel at a time and keeps the width reads, for one tap, pixels that lie side by side: only padding
 * interrupts them. One that moves two at a time and halves the width does so, too, once even and odd rows and columns are taken
 * apart into four phases. Entries that such a window needs for gs_inside_fill, or 0 where runs must do. */
size_t gs_inside_entries(const gs_loops *loops, const gs_tensor *x, const gs_tensor *y, const gs_window *w);
/* Per tap, one bit per output pixel, 16 an entry: whether the tap lies inside the image. */
void gs_inside_fill(const gs_tensor *x, const gs_tensor *y, const gs_window *w, uint16_t *inside);

/* Words that one tile of at most n output pixels needs for phases, given the groups that are gathered. */
uint64_t gs_phase_words(const gs_tensor *y, const gs_window *w, uint32_t groups, uint32_t n);

/* Output pixels [px0, px0 + n) of one image: word (tap, channel group, pixel) at
 * dst[(tap*groups + group)*tile + pixel - px0], each xored with flip. px0 and tile are multiples of GS_PX, or tile is 1. */
void gs_gather_tile(const gs_gather *g, uint32_t px0, uint32_t n, uint32_t tile, gs_word *dst);

/* The same for int8 channels [first, first + count) that do not start or end on a group of four. */
void gs_gather_lanes(const gs_gather *g, uint32_t first, uint32_t count, uint32_t px0, uint32_t n, uint32_t tile,
                     uint8_t *dst);
#endif
