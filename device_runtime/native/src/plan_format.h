/* The bytes of a bundle: container, plan records, operator parameters. Mirrored by sdk/gossamer/compile/plan.py;
 * tests/compile/test_plan_format.py compares the two. All integers little-endian, no implicit padding.
 * FORMAT.md (device_runtime/) is the page to audit; this header is what the loader reads. */
#ifndef GS_PLAN_FORMAT_H
#define GS_PLAN_FORMAT_H
#include <stdint.h>

#define GS_MAGIC "GOSSAMER"          /* 8 bytes */
#define GS_FORMAT_VERSION 1u
#define GS_ALIGN 64u                 /* every section, constant and arena tensor starts at a multiple of this */
#define GS_NONE 0xFFFFFFFFu          /* an absent optional input */

/* Caps: anything above is refused before it is used. */
#define GS_CAP_FILE (1ull << 31)     /* bytes */
#define GS_CAP_SECTIONS 64u
#define GS_CAP_TENSORS 65536u
#define GS_CAP_OPS 65536u
#define GS_CAP_REFS 1048576u
#define GS_CAP_IO 256u
#define GS_CAP_STRINGS (1u << 24)    /* bytes */
#define GS_CAP_DIM (1u << 24)
#define GS_CAP_ELEMENTS (1u << 28)   /* of one tensor */
#define GS_CAP_ARENA (1ull << 30)    /* bytes */

/* Container: header, section table (n_sections records), then the sections in order of offset, each aligned to 64,
 * gaps zero, without overlap; the file ends where the last section (always SIGNATURE) ends. */
enum { GS_SECTION_PLAN = 1, GS_SECTION_WEIGHTS = 2, GS_SECTION_MANIFEST = 3, GS_SECTION_EXTERN = 4,
       GS_SECTION_SIGNATURE = 5 };
typedef struct {                     /* 64 bytes */
  uint8_t magic[8];
  uint32_t version;                  /* GS_FORMAT_VERSION */
  uint32_t n_sections;
  uint64_t file_size;                /* exact */
  uint8_t reserved[40];              /* zero */
} gs_file_header;
typedef struct {                     /* 32 bytes */
  uint32_t kind;                     /* PLAN, WEIGHTS, MANIFEST once each, EXTERN any number, SIGNATURE once and last */
  uint32_t tag;                      /* EXTERN: GS_BACKEND_*; else 0 */
  uint64_t offset;                   /* from the start of the file, multiple of 64 */
  uint64_t size;                     /* exact bytes; 0 allowed for WEIGHTS */
  uint64_t reserved;                 /* zero */
} gs_section;
/* SIGNATURE section: 96 bytes: public key[32], Ed25519 signature[64] over all bytes of the file before this section.
 * All 96 zero: unsigned. */
#define GS_SIGNATURE_BYTES 96u

enum { GS_BACKEND_ONNXRUNTIME = 1, GS_BACKEND_LITERT = 2, GS_BACKEND_TVM = 3, GS_BACKEND_FPGA = 4 };

/* Plan section: header, tensors, ops, refs (u32 tensor numbers), inputs (u32), outputs (u32), strings. In this order,
 * back to back, sizes exact. A string reference is an offset into `strings`, where a NUL-terminated UTF-8 string starts
 * (the last byte of strings is NUL). Offset 0 is the empty string. */
typedef struct {                     /* 64 bytes */
  uint32_t n_tensors, n_ops, n_refs, n_inputs, n_outputs, strings_size;
  uint64_t arena_size;               /* bytes, multiple of 64 */
  uint32_t n_externs;                /* number of EXTERN sections */
  uint8_t reserved[28];              /* zero */
} gs_plan_header;

/* Where a tensor's bytes are. Inputs and outputs of the graph are ARENA tensors in ROW layout: the run copies from and
 * to the user's buffers. */
enum { GS_PLACE_ARENA = 0, GS_PLACE_CONST = 1 };
/* Layouts.
 * ROW: row-major over dims, dense, any rank 0..6.
 * CB ("channel-blocked"): rank 4 (N,C,H,W); b = 4 for S8, 1 for F32 (other dtypes are never CB).
 *   element (n,c,h,w) is at index ((n*ceil(C/b) + c/b) * pstride + h*W + w) * b + c%b.
 *   pstride: pixels between consecutive channel groups. H*W == 1: pstride == 1. Else a multiple of 16, >= H*W.
 *   Lanes c >= C and pixels >= H*W hold unspecified values that no result may depend on; kernels may read and
 *   write pixels up to the next multiple of 16 above H*W, not beyond.
 *   bytes = N * ceil(C/b) * pstride * b * sizeof(dtype). */
enum { GS_LAYOUT_ROW = 0, GS_LAYOUT_CB = 1 };
typedef struct {                     /* 64 bytes */
  uint32_t name;                     /* string */
  uint8_t dtype, layout, rank, place;
  uint32_t dims[6];                  /* unused ones 0 */
  uint32_t pstride;                  /* CB only, else 0 */
  float scale;                       /* quantised activations, else 0; finite, 1e-30..1e30 */
  int32_t zero_point;                /* within the dtype's range */
  uint32_t reserved;                 /* zero */
  uint64_t offset;                   /* into the arena or the WEIGHTS section; multiple of 64 */
  uint64_t size;                     /* exact bytes by dtype, dims and layout; const: exact bytes of the span */
} gs_tensor_rec;

typedef struct {                     /* 160 bytes */
  uint16_t kind;                     /* GS_OP_* */
  uint8_t n_in, n_out;
  uint32_t refs;                     /* first of n_in + n_out tensor numbers in refs: inputs, then outputs */
  uint32_t name, source;             /* strings */
  int32_t p[28];                     /* meaning by kind, unused ones 0 */
  float f[8];                        /* likewise; never NaN */
} gs_op_rec;

/* Operators. "q" marks int8 rules, written in NUMERICS.md. x is the first input, y the output. All inputs and outputs
 * have the same dtype unless said otherwise. */
enum {
  /* in: x(CB), w.values, w.index|NONE, bias|NONE (F32, or S32 in q), scale|NONE (q: F32[Cout]); out: y(CB)
   * p: GS_P_KH.. of the window, GS_P_GROUPS, the GS_P_W* group for weights, GS_P_QLO/QHI; f: GS_F_LO, GS_F_HI
   * dense values: [Cout][kh][kw][Cin/groups]. Sparse: groups == 1. */
  GS_OP_CONV = 1,
  /* in: x(CB), values [C*multiplier][kh][kw] (F32; q: S8 or S16), bias|NONE, scale|NONE; out: y(CB). No sparsity.
   * GS_P_GROUPS holds the multiplier (output channel c*multiplier+m reads input channel c). */
  GS_OP_DWCONV = 2,
  /* in: x(ROW, [..., K]), values [N][K], index|NONE, bias|NONE, scale|NONE; out: y(ROW, [..., N]) */
  GS_OP_GEMM = 3,
  /* in: a(ROW [...,M,K]), b(ROW [...,K,N]); out y(ROW [...,M,N]); leading dims broadcast; both from activations or
   * constants. p[0] a is given transposed ([...,K,M]), p[1] b is given transposed. f[GS_F_RA] multiplier (q), alpha (f32). */
  GS_OP_MATMUL = 4,
  /* in: a, b (any layout, numpy broadcasting over logical shapes; constants are ROW); out y. p[0] GS_BIN_*.
   * q: only ADD, SUB, MUL; f[GS_F_RA], f[GS_F_RB]. Clamps by QLO/QHI or LO/HI. */
  GS_OP_BINARY = 5,
  /* f32. in: x; out: y same layout and shape. p[0] GS_UN_*; f[0], f[1] its parameters. */
  GS_OP_UNARY = 6,
  /* in: x (S8 or U8), table (256 or C*256 bytes of y's dtype); out: y (S8 or U8), same layout and shape.
   * p[0]: 1 or C (then the channel axis is 1). y = table[channel*256 + (uint8_t)x]. */
  GS_OP_LUT = 7,
  /* f32. in: x, slope (F32[1] or F32[C], axis 1); out: y */
  GS_OP_PRELU = 8,
  /* in: x(CB); out: y(CB). window in p. Padding never wins. q: scale and zero point of x and y equal. */
  GS_OP_MAXPOOL = 9,
  /* in: x(CB); out: y(CB). window in p; p[GS_P_GROUPS] 1: padding counts in the divisor. q: f[GS_F_RA] = sx/sy. */
  GS_OP_AVGPOOL = 10,
  /* in: x; out: y (ROW both). p[0] GS_RED_*, p[1] bit set of reduced axes of x. y's shape: with or without the axes.
   * q: MEAN and SUM: f[GS_F_RA] (MEAN: sx/(sy*count)); MAX, MIN: equal scale and zero point. */
  GS_OP_REDUCE = 11,
  /* in: x; out: y (same layout, ROW or CB). p[0] GS_PAD_*, p[1..6] before, p[7..12] after (>= 0 each),
   * constant: f[0] (f32) or p[13] (q, already quantised) */
  GS_OP_PAD = 12,
  /* in: 1..255 tensors; out: y; all of one layout, dtype, scale and zero point. p[0] axis */
  GS_OP_CONCAT = 13,
  /* in: x; out: y (one layout). p[0..5] start, p[6..11] step (nonzero, may be negative); all elements in range */
  GS_OP_SLICE = 14,
  /* in: x(ROW); out: y(ROW), same element count; any dtype */
  GS_OP_RESHAPE = 15,
  /* in: x(ROW); out: y(ROW). p[0..5] perm: y.dims[i] = x.dims[perm[i]]; any dtype */
  GS_OP_TRANSPOSE = 16,
  /* in: x(ROW), table|NONE (q: U32[256]); out: y(ROW). p[0] axis, p[1] 1: LogSoftmax (f32). q: f[GS_F_RA] = 1/sy */
  GS_OP_SOFTMAX = 17,
  /* in: x(CB), yi S32[OH*2], yw (F32[OH*2] or q: S16[OH*2]), xi S32[OW*2], xw; out: y(CB).
   * p[0] 0: nearest (element 0 of each pair), 1: linear. Indices are checked against H and W at load.
   * q: weights of a pair sum to 1024; f[GS_F_RA] = sx/(sy*1024*1024) */
  GS_OP_RESIZE = 18,
  /* in: x F32; out: y S8 or U8; same shape (ROW) */
  GS_OP_QUANTIZE = 19,
  /* in: x S8, U8 or S32; out: y F32; same shape (ROW) */
  GS_OP_DEQUANTIZE = 20,
  /* in: x; out: y; one is ROW, the other CB. p[0] 0: the ROW side is [N,C,H,W]; 1: it is [N,H,W,C] */
  GS_OP_LAYOUT = 21,
  /* f32. in: x(ROW), gamma|NONE, beta|NONE; out: y. p[0] first normalised axis; f[0] epsilon */
  GS_OP_LAYERNORM = 22,
  /* in: ROW tensors of any dtype; out: likewise. p[0] number of the EXTERN section (0-based), p[1] GS_BACKEND_* */
  GS_OP_EXTERN = 23,
  GS_OP_COUNT = 24
};

/* Window and weight parameters (CONV, DWCONV, GEMM, MAXPOOL, AVGPOOL). */
enum {
  GS_P_KH = 0, GS_P_KW, GS_P_SH, GS_P_SW, GS_P_DH, GS_P_DW, GS_P_PT, GS_P_PL, GS_P_PB, GS_P_PR, GS_P_GROUPS,
  GS_P_WBR = 11,   /* block rows; 0: dense */
  GS_P_WBC = 12,   /* block columns */
  GS_P_WBLOCKS = 13, /* stored blocks */
  GS_P_WENC = 14,  /* GS_ENC_* */
  GS_P_WLABEL = 15, /* GS_PATTERN_* that runs. DENSE with blocks: spread out at load; then no column repeats */
  GS_P_WN = 16, GS_P_WM = 17, /* of n:m, else 0 */
  GS_P_ROUND = 18, /* AVGPOOL q: GS_ROUND_* */
  GS_P_QLO = 20, GS_P_QHI = 21 /* int8 output clamp, within [-128, 127] */
};
/* How an int8 average rounds. HALF_AWAY: TFLite's integer rule for int8, half away from zero of the stored value;
 * HALF_UP: the same for uint8 values that were shifted to int8. Both need equal scale and zero point of x and y. */
enum { GS_ROUND_EVEN = 0, GS_ROUND_HALF_AWAY = 1, GS_ROUND_HALF_UP = 2 };
enum { GS_F_LO = 0, GS_F_HI = 1, /* f32 output clamp, -inf and +inf where there is none */
       GS_F_RA = 2, GS_F_RB = 3 };

/* Sparse weights. The matrix has R = Cout rows and K columns, K = kh*kw*Cp, Cp = Cin rounded up to 4 (GEMM: K rounded
 * up to 4), column (ky*kw + kx)*Cp + c. It is cut into blocks of br x bc in {1x1, 1x4, 4x1, 4x4}; block rows are rows
 * [i*br, i*br+br), the last one padded with zero rows.
 * values: for each block row, for each stored block in rising column order: br*bc values, row-major.
 * index: u16 count per block row, then the block columns:
 *   DELTA8: per stored block, column - previous column (previous = 0 at the start of a row; equal columns may repeat:
 *           their products add up) as bytes: 255 means "add 255 and read on".
 *   BITMAP: per block row ceil(block columns / 8) bytes, least significant bit first, 1 = stored. */
enum { GS_ENC_DELTA8 = 1, GS_ENC_BITMAP = 2 };
enum { GS_PATTERN_DENSE = 0, GS_PATTERN_UNSTRUCTURED = 1, GS_PATTERN_1X4 = 2, GS_PATTERN_4X1 = 3, GS_PATTERN_4X4 = 4,
       GS_PATTERN_NM = 5 };

enum { GS_BIN_ADD = 0, GS_BIN_SUB, GS_BIN_MUL, GS_BIN_DIV, GS_BIN_MAX, GS_BIN_MIN, GS_BIN_POW, GS_BIN_COUNT };
enum {
  GS_UN_CLIP = 0,      /* f0 lo, f1 hi (relu, relu6, clip) */
  GS_UN_HARDSWISH,     /* x * clip(x/6 + 0.5, 0, 1) */
  GS_UN_HARDSIGMOID,   /* clip(f0*x + f1, 0, 1) */
  GS_UN_SIGMOID, GS_UN_TANH,
  GS_UN_LEAKYRELU,     /* x < 0 ? f0*x : x */
  GS_UN_ELU,           /* x < 0 ? f0*(exp(x)-1) : x */
  GS_UN_GELU,          /* 0.5*x*(1+erf(x/sqrt 2)) */
  GS_UN_GELU_TANH, GS_UN_SILU, GS_UN_EXP, GS_UN_LOG, GS_UN_SQRT, GS_UN_RECIPROCAL, GS_UN_ABS, GS_UN_NEG, GS_UN_ERF,
  GS_UN_SOFTPLUS, GS_UN_FLOOR, GS_UN_CEIL, GS_UN_COUNT
};
enum { GS_RED_MEAN = 0, GS_RED_SUM, GS_RED_MAX, GS_RED_MIN, GS_RED_COUNT };
enum { GS_PAD_CONSTANT = 0, GS_PAD_EDGE, GS_PAD_REFLECT, GS_PAD_COUNT };

#endif
