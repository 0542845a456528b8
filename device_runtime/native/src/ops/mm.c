/* Kernel choice, weight packing and tile sizes of CONV and GEMM. */
#include "mm.h"

#include <string.h>

static gs_form stored_form(const gs_op *op) {
  int32_t br = op->p[GS_P_WBR], bc = op->p[GS_P_WBC];
  if (br == 0 || op->p[GS_P_WLABEL] == GS_PATTERN_DENSE) return GS_FORM_DENSE;
  if (br == 1) return GS_FORM_1X4;
  return op->in[0]->dtype == GS_S8 && bc == 1 ? GS_FORM_4X1 : GS_FORM_4X4;
}

gs_status gs_choose_mm(const gs_session *s, const gs_op *op, int gemv, uint64_t products, const gs_mm_kernel **kernel,
                       gs_error *error) {
  gs_dtype dtype = op->in[0]->dtype;
  gs_form form = stored_form(op);
  uint32_t bits = gs_x_bits(s, op->in[0]);
  int tame = gs_is_tame(op->in[3], op->in[4], products);
  *kernel = gs_pick_mm(s->options.isa_cap, dtype, form, gemv, bits, tame);
  if (!*kernel && form != GS_FORM_DENSE) *kernel = gs_pick_mm(s->options.isa_cap, dtype, GS_FORM_1X4, gemv, bits, tame);
  if (!*kernel) return gs_fail_op(error, GS_E_UNSUPPORTED, op, "this build has no kernel for its weights");
  return GS_OK;
}

bool gs_can_close_up(const gs_mm_kernel *k, const gs_op *op, uint32_t taps, uint32_t cin, uint32_t groups) {
  return k->dtype == GS_S8 && k->form == GS_FORM_DENSE && op->p[GS_P_WBR] == 0 && groups == 1 && cin < 4 && taps > 1;
}

static uint64_t executed_products(const gs_mm_kernel *k, const gs_matrix *m, const gs_packed *p) {
  if (k->form == GS_FORM_DENSE) return (uint64_t)m->rows * m->cols;
  return (uint64_t)p->entries * m->br * m->bc;
}

gs_status gs_pack_weights(gs_node *node, const gs_mm_kernel *k, uint32_t rows, uint32_t kh, uint32_t kw, uint32_t cin,
                          uint32_t groups, size_t x_stride, uint64_t pixels, bool close_up, gs_packed *packed, gs_error *error) {
  const gs_op *op = node->op;
  gs_weights w;
  GS_TRY(gs_weights_decode(op, rows, kh, kw, cin, k->form, &w, error));
  gs_status status = close_up ? gs_weights_close_up(op, &w, kh * kw, cin, error) : GS_OK;
  if (status != GS_OK) {
    gs_weights_free(&w);
    return status;
  }
  gs_matrix part = w.m;
  part.rows = rows / groups;
  size_t item = w.m.dtype == GS_F32 ? 4 : 1;
  const uint8_t *bias = node->in[3];
  const float *scale = node->in[4];
  uint64_t executed = 0;
  for (uint32_t g = 0; g < groups && status == GS_OK; g++) {
    size_t row = (size_t)g * part.rows;
    if (groups > 1) part.values = (const uint8_t *)w.m.values + row * w.m.cols * item; /* dense only */
    status = gs_pack(k, &part, bias ? bias + row * 4 : NULL, scale ? scale + row : NULL, x_stride, &packed[g]);
    executed += executed_products(k, &part, &packed[g]);
    node->state_bytes += packed[g].bytes;
  }
  node->kernel = k->name;
  node->weight_count = (uint64_t)rows * kh * kw * cin;
  node->weight_nonzero = w.nonzero;
  node->macs = node->weight_count * pixels;
  node->macs_executed = executed < node->weight_count ? executed * pixels : node->macs;
  gs_weights_free(&w);
  if (status != GS_OK) return gs_fail_op(error, status, op, "out of memory while packing its weights");
  return GS_OK;
}

/* Vectors of the compiler, so that every machine has it: four words to the two pairs of lanes of four pixels. */
typedef int8_t bytes16 __attribute__((vector_size(16)));
typedef int8_t bytes8 __attribute__((vector_size(8)));
typedef int16_t words8 __attribute__((vector_size(16)));

/* n words of every group, a multiple of four, to int16. */
static void widen(const uint8_t *src, size_t stride, uint32_t groups, uint32_t n, int16_t *dst) {
  for (uint32_t g = 0; g < groups; g++, src += stride, dst += GS_WIDE_PX * 4)
    for (uint32_t p = 0; p < n; p += 4) {
      bytes16 v;
      memcpy(&v, src + (size_t)p * 4, 16);
      const bytes8 first = __builtin_shufflevector(v, v, 0, 1, 4, 5, 8, 9, 12, 13);
      const bytes8 second = __builtin_shufflevector(v, v, 2, 3, 6, 7, 10, 11, 14, 15);
      const words8 low = __builtin_convertvector(first, words8), high = __builtin_convertvector(second, words8);
      memcpy(dst + p * 2, &low, 16);
      memcpy(dst + GS_WIDE_PX * 2 + p * 2, &high, 16);
    }
}

void gs_run_wide(const gs_mm_kernel *k, const gs_mm_args *a, int16_t *wide) {
  gs_mm_args part = *a;
  part.x = wide;
  part.x_stride = GS_WIDE_PX * 8;
  for (uint32_t p = 0; p < a->npx; p += GS_WIDE_PX) {
    part.npx = a->npx - p < GS_WIDE_PX ? a->npx - p : GS_WIDE_PX;
    part.y = (uint8_t *)a->y + (size_t)p * 4;
    widen((const uint8_t *)a->x + (size_t)p * 4, a->x_stride, a->w->groups, part.npx, wide);
    k->run(&part);
  }
}

/* Pixels that kernels which cut K into slices like: they pass over the tile in parts that fit the first cache by themselves,
 * so that the tile only has to stay in the second, and parts of nearly equal width waste less than a narrow last one. */
static uint32_t sliced_tile(const gs_session *s, uint64_t words_per_pixel, uint32_t pixels) {
  uint32_t vectors = gs_ceil_div(pixels, GS_PX), most = 16;
  while (most > 4 && words_per_pixel * most * GS_PX * 4 > 192 * 1024) most--;
  uint32_t tiles = gs_ceil_div(vectors, most), threads = gs_threads(s);
  if (tiles < 4 * threads && vectors >= 4 * threads) tiles = gs_ceil_div(tiles, threads) * threads; /* an equal number for each */
  return gs_ceil_div(vectors, tiles) * GS_PX;
}

uint32_t gs_tile_pixels(const gs_session *s, const gs_mm_kernel *k, uint64_t words_per_pixel, uint32_t pixels) {
  if (k->widen & GS_SORTED && pixels > 1 && words_per_pixel * 4 * GS_PX * 4 <= 512 * 1024)
    return sliced_tile(s, words_per_pixel, pixels);
  uint32_t tile = k->tile_px, all = gs_round_px(pixels);
  /* Wide tiles pay while they stay in the first cache. */
  while (tile > 64 && words_per_pixel * tile * 4 > 32 * 1024) tile = (tile / 2 + GS_PX - 1) / GS_PX * GS_PX;
  while (tile > GS_PX && words_per_pixel * tile * 4 > 512 * 1024) tile = (tile / 2 + GS_PX - 1) / GS_PX * GS_PX;
  return tile < all ? tile : all;
}
