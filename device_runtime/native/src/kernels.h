/* The micro-kernel interface: what an operator hands to the machine-specific inner loops, and the tables that say which
 * micro-kernels exist. One micro-kernel a file, file and function named
 *   gs_<dtype>_<op>_<form>_<tile>__<isa>      e.g. gs_s8_mm_1x4_64x128__avx512vnni
 * Operators (src/ops) own shapes, padding, tiling and threads; a micro-kernel sees one tile and packed weights.
 *
 * Bounds that every micro-kernel keeps: it reads and writes only the pixels it is told of, which for tiles of more than
 * one pixel is a multiple of GS_PX (the buffers are that long); it may over-read packed weights by up to GS_WSLACK bytes
 * (packing allocates and zeroes them). */
#ifndef GS_KERNELS_H
#define GS_KERNELS_H
#include "gossamer.h"

#define GS_PX 16u      /* tiles are multiples of this many pixels */
#define GS_WSLACK 64u
#define GS_SLICE 128u  /* most columns of one slice of lists in fours: with 64 pixels of f32 it fills 32 KiB */
#define GS_SORTED_SLICE 160u /* most groups of one slice of sorted lists: with 64 pixels they fill 40 KiB */
#define GS_SORTED_STRIDE (65535u * 64 / GS_SORTED_SLICE) /* largest x_stride of sorted lists, whose offsets have 16 bits */
#define GS_BLOCK_ROWS 64u /* most rows of a row block of lists that are sorted, in fours or not */
#define GS_WIDE_W 1       /* of gs_mm_kernel.widen */
#define GS_WIDE_X 2
#define GS_SORTED 4       /* sorted lists */
#define GS_TAME 8         /* takes only sums that times their scale fit 32 bits */

/* Four bytes at a time: one float, or the four channels of an int8 pixel. Any alignment of 4; aliases everything. */
typedef uint32_t __attribute__((may_alias)) gs_word;

/* Requantisation of NUMERICS.md: q = clamp(round_half_even((float)acc * scale[row]) + zp, lo, hi). */
typedef struct {
  const float *scale; /* one per output row, padded to the packed rows with 0 */
  int32_t zp, lo, hi;
} gs_requant;

/* Forms of packed weights. Rows are padded to the kernel's row block with empty rows (bias 0, scale 0).
 * "group" = 4 consecutive K columns (S8) or one K column (F32): what one x_stride step holds. */
typedef enum {
  GS_FORM_DENSE = 0, /* all groups, in order */
  GS_FORM_1X4 = 1,   /* S8: each row has its own list of groups. F32: each row has its own list of single columns */
  GS_FORM_4X4 = 2,   /* four rows share a list of groups (F32: of columns) */
  GS_FORM_4X1 = 3    /* S8 only: four rows share a list of single columns */
} gs_form;

/* A canonical weight matrix, decoded from the bundle and checked: what packing starts from. For every block row br:
 * blocks [start[br], start[br+1]), each with its block column and br_h*bc_w values. Dense: start == NULL. */
typedef struct {
  gs_dtype dtype; /* GS_S8 or GS_F32 */
  uint32_t rows, cols; /* R, and K; S8: channels of every tap rounded up to 4 */
  uint32_t br, bc;     /* block shape; 0 when dense */
  const uint32_t *start;
  const uint32_t *col; /* block column numbers */
  const void *values;  /* blocks, or for dense rows x cols */
} gs_matrix;

/* Weights as one micro-kernel wants them. Made once per session by the kernel's pack function. */
typedef struct {
  uint32_t rows;         /* real rows */
  uint32_t row_blocks;   /* ceil(rows / kernel rows) */
  uint32_t groups;       /* K groups of the dense matrix */
  const uint32_t *start; /* sparse forms: per list (row for 1X4, four rows for 4X4 and 4X1), first entry; one more at the end */
  const uint32_t *off;   /* sparse forms: per entry, byte offset into x (group * x_stride; 4X1: + lane) */
  const void *val;       /* weights in the kernel's order */
  const uint32_t *order; /* lists in fours: per list and of its four the row (of the matrix, rows of padding last); sorted lists:
                            per list its row; else NULL */
  uint32_t slices;       /* lists in fours and sorted ones: ranges of columns that K is cut into; else 1 */
  const void *bias;      /* int32 (with the kernel's own correction folded in) or float, padded to row blocks, never NULL */
  float *scale;          /* S8: padded to row blocks */
  size_t entries;        /* of off */
  uint32_t off_bytes;    /* of one entry of off: 4, of sorted lists 2, of lists in fours 1 */
  void *memory;          /* what gs_packed_free releases */
  size_t bytes;
} gs_packed;

typedef struct {
  const void *x;     /* S8: element (group g, pixel p, lane l) at x[g*x_stride + p*4 + l]; F32: (g, p) at x + g*x_stride + p*4.
                        Of a kernel with x_offset 128: every byte xored with 0x80 by the caller while it gathers the tile */
  size_t x_stride;   /* bytes; 4 when npx == 1 (y_stride too), else a multiple of 64 */
  void *y;           /* same arrangement over output rows: S8 row r in group r/4, lane r%4; F32 row r in group r */
  size_t y_stride;
  uint32_t npx;      /* 1, or a multiple of GS_PX */
  uint32_t block0, block1; /* row blocks to compute; only the last one may hold padded rows. S8 writes whole groups of 4 rows
                              (up to ceil(rows/4)); F32 writes only real rows */
  const gs_packed *w;
  gs_requant q;      /* S8 */
  float lo, hi;      /* F32 */
} gs_mm_args;

typedef struct gs_mm_kernel {
  const char *name;
  gs_isa isa;
  gs_dtype dtype;
  gs_form form;
  uint32_t rows;     /* rows of one row block: 4, 8, ... (S8: a multiple of 4) */
  uint32_t tile_px;  /* pixels it likes per call (multiple of GS_PX); any multiple of GS_PX must work. 1: a GEMV kernel,
                        called only with npx == 1 */
  int32_t x_offset;  /* 0, or 128 (VNNI): the kernel reads x as u8, x + 128. The caller gathers x into a tile of its own and
                        xors it with 0x80 on the way (once a tile, not once a weight); packing folds -x_offset * sum(w) into
                        the bias */
  /* val layout of GS_FORM_DENSE is [row block][group][rows][4 or 1]; of 1X4 per entry 4 (S8) or 1 (F32) values;
   * of 4X4 per entry [4 rows][4 or 1]; of 4X1 S8: entries padded to a multiple of 4 per list with (off of the last entry, 0),
   * per 4 entries [4 rows][4 entries]. widen: GS_WIDE_W, S8 values stored as int16; GS_WIDE_X, x is int16 too: the caller
   * widens a tile once, not once a weight, and lays its pairs of lanes apart, so that one pairwise dot product sums pixels
   * that lie side by side: lanes 0 and 1 of (group g, pixel p) at x + g*x_stride + p*4, lanes 2 and 3 half an x_stride on
   * (x_stride is then a multiple of 128; off counts in it as ever).
   *
   * Lists in fours: what F32 1X4 with rows > 4 is packed as. K is cut into slices that keep a tile of x near the core, and a
   * kernel adds slice after slice into y. Within a row block of a slice, rows are sorted by their count and taken in fours
   * with a common count (the shorter ones end in zero weights on column 0 of the slice): loop ends that can be foreseen, and
   * four independent sums. Lists lie [slice][row block][rows / 4]; start counts steps; of a step off and val are [4 rows],
   * off in bytes that count columns from gs_slice_first: four are one load, and loads are what bounds these loops.
   *
   * GS_SORTED, sorted lists of S8 1X4: K is cut into slices likewise. Lists lie [slice][row block][rows], within a block by
   * falling length where there are several slices; order names their rows. off is uint16_t: the group within the slice times
   * x_stride / 64. */
  int widen;
  uint32_t x_bits;   /* S8: 8 takes any x; 7 is picked only where every x is known to lie in 0..127 (src/ranges.c). Lanes and
                        pixels of padding may hold anything: their weights are zero or their results unused */
  void (*run)(const gs_mm_args *a);
} gs_mm_kernel;

/* Depthwise over rows of one plane group. A kernel that pads reads the plane where it lies: tap (ky, kx) of output (oy, ox)
 * is row oy*sh + ky*dh - top, column ox*sw + kx*dw - left of x, and reads as pad outside [0, ih) x [0, iw). Any other kernel
 * gets rows that are padded already (top and left 0, every tap inside) with 64 bytes of slack behind. */
typedef struct {
  const void *x;     /* S8 [rows][x_row bytes] of 4-lane pixels; F32 of single pixels */
  size_t x_row;      /* bytes between input rows, multiple of 4 */
  void *y;           /* output: pixel (oy, ox) at y + (oy*ow + ox)*4 bytes (both dtypes) */
  uint32_t oh, ow, kh, kw, sh, sw, dh, dw;
  const void *w;     /* S8: int16 [kh*kw][4]; F32: float [kh*kw] */
  const void *bias;  /* S8: int32[4]; F32: float[1] */
  const void *packed; /* of a kernel that packs */
  gs_requant q;      /* S8: scale[4] */
  float lo, hi;
  uint32_t y_px;     /* pixels from y on that may be written: at least oh*ow */
  uint32_t ih, iw;   /* of x, for kernels that pad */
  int32_t top, left; /* top is negative where the rows start further down the plane */
  uint32_t pad;      /* word of padding */
  uint32_t flip;     /* kernels that pad: every word of y is xored with it, as a matrix kernel of x_offset 128 wants its x */
} gs_dw_args;

typedef struct {
  const char *name;
  gs_isa isa;
  gs_dtype dtype;
  uint32_t kh, kw, sh, sw; /* shape it is for; 0: any (dilation 1 only unless all four are 0) */
  int pads;          /* reads unpadded planes and obeys flip */
  /* Where pack is given, it turns w, bias and scale of one channel group into packed_bytes (a multiple of 16) once per session,
   * and run reads those alone. Only for int8 weights within -127..127 (two products fit 16 bits) and tame scales. */
  uint32_t packed_bytes;
  void (*pack)(const gs_dw_args *a, void *to);
  void (*run)(const gs_dw_args *a);
} gs_dw_kernel;

/* ADD: y[i] = clamp(((a[i]*ma + b[i]*mb + bias) >> shift) + zo); a subtraction comes with mb negated.
 * MUL: y[i] = clamp(rhe((float)((a[i]-za)*(b[i]-zb)) * ra) + zo). n is any length; y may be a or b. */
typedef struct {
  const int8_t *a, *b;
  int8_t *y;
  size_t n;
  int32_t ma, mb, bias, shift; /* ADD: |ma|, |mb| <= 2^21, 1 <= shift <= 30; bias holds zero points and rounding */
  float ra;                    /* MUL */
  int32_t za, zb;              /* MUL */
  int32_t zo, lo, hi;
} gs_binary_s8_args;
typedef struct {
  const char *name;
  gs_isa isa;
  uint32_t op; /* GS_BIN_ADD (also subtracts) or GS_BIN_MUL */
  void (*run)(const gs_binary_s8_args *a);
} gs_binary_s8_kernel;

typedef struct {
  const char *name;
  gs_isa isa;
  void (*run)(const uint8_t *x, uint8_t *y, size_t n, const uint8_t table[256]);
} gs_lut_kernel;

/* Plain loops over words and bytes, written once (kernels/loops.h) and compiled for every instruction set. Words are pixels:
 * four int8 channels or one f32. */
typedef struct {
  const char *name;
  gs_isa isa;
  /* y[i] = x[i*step] ^ flip for n words of each of `planes` planes, which lie x_plane and y_plane words apart */
  void (*gather)(const gs_word *x, size_t x_plane, uint32_t planes, size_t n, size_t step, gs_word flip, gs_word *y,
                 size_t y_plane);
  /* The same with step 1, n a multiple of 16; words with a clear bit in inside[i / 16] are padding: they become pad ^ flip and
   * x is not read there. NULL where runs of gather are as fast. */
  void (*window)(const gs_word *x, size_t x_plane, uint32_t planes, size_t n, const uint16_t *inside, gs_word pad, gs_word flip,
                 gs_word *y, size_t y_plane);
  /* Quantize of NUMERICS.md, to the bytes of S8 or U8 */
  void (*quantize)(const float *x, size_t n, float scale, int32_t zp, int32_t lo, int32_t hi, uint8_t *y);
  /* y[i] = bytes plane[0][i], plane[1][i], ...; lanes from n_planes on are zero */
  void (*interleave)(const uint8_t *const plane[4], uint32_t n_planes, size_t n, gs_word *y);
  /* y[i] = the first `lanes` (1 to 4) bytes of x at x + i*step, the others zero */
  void (*spread)(const uint8_t *x, size_t n, size_t step, uint32_t lanes, gs_word *y);
  /* The first `lanes` (1 to 3) bytes of the words of `taps` planes of x, one after another: words (taps*lanes + 3) / 4 planes of
   * y; bytes beyond the last are zero. Planes lie `plane` words apart in both */
  void (*close_up)(const gs_word *x, uint32_t taps, uint32_t lanes, size_t n, size_t plane, gs_word *y);
  /* y[i] = max(y[i], x[i]) for every byte of n words, and for floats */
  void (*max_s8)(const int8_t *x, size_t n, int8_t *y);
  void (*max_f32)(const float *x, size_t n, float *y);
  /* y[lane] += the sum of n pixels; y[0] += the sum of n floats in some order */
  void (*sum_s8)(const int8_t *x, size_t n, int32_t y[4]);
  void (*sum_f32)(const float *x, size_t n, float *y);
} gs_loops;

/* One table per instruction set, each in kernels/<arch>/table.c; a table is present only in builds for its machine. */
typedef struct {
  const gs_mm_kernel *mm;
  uint32_t n_mm;
  const gs_dw_kernel *dw;
  uint32_t n_dw;
  const gs_binary_s8_kernel *binary;
  uint32_t n_binary;
  const gs_lut_kernel *lut;
  uint32_t n_lut;
  const gs_loops *const *loops;
  uint32_t n_loops;
} gs_kernel_table;

extern const gs_kernel_table gs_table_scalar;
#if defined(__x86_64__)
extern const gs_kernel_table gs_table_x86;
#endif
#if defined(__aarch64__) || (defined(__arm__) && defined(__ARM_NEON))
extern const gs_kernel_table gs_table_arm;
#endif
#if defined(__wasm_simd128__)
extern const gs_kernel_table gs_table_wasm;
#endif

/* src/dispatch.c: the tables of this build, the machine's before the scalar one. */
extern const gs_kernel_table *const gs_tables[];
extern const uint32_t gs_n_tables;

/* src/dispatch.c: the best kernel at or below isa, or NULL when not even scalar has one. gemv: tile_px == 1. x_bits: 7 when x
 * is known to lie in 0..127, else 8. tame: every sum times its scale fits 32 bits. wide: some weight lies outside -127..127, or
 * it is not tame. */
const gs_mm_kernel *gs_pick_mm(gs_isa isa, gs_dtype dtype, gs_form form, int gemv, uint32_t x_bits, int tame);
const gs_dw_kernel *gs_pick_dw(gs_isa isa, gs_dtype dtype, uint32_t kh, uint32_t kw, uint32_t sh, uint32_t sw,
                               uint32_t dh, uint32_t dw, int wide);
const gs_binary_s8_kernel *gs_pick_binary_s8(gs_isa isa, uint32_t op);
const gs_lut_kernel *gs_pick_lut(gs_isa isa);
const gs_loops *gs_pick_loops(gs_isa isa);

/* First group of slice s; s == slices gives the end. */
static inline uint32_t gs_slice_first(uint32_t groups, uint32_t slices, uint32_t s) {
  return (uint32_t)((uint64_t)groups * s / slices);
}

/* src/pack.c: canonical matrix -> packed weights of one kernel. x_stride: what off is multiplied by. bias may be NULL. */
gs_status gs_pack(const gs_mm_kernel *k, const gs_matrix *m, const void *bias, const float *scale, size_t x_stride,
                  gs_packed *out);
void gs_packed_free(gs_packed *p);
#endif
