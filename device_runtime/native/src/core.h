/* What the rooms of the core share: the checked model, the session, and the table of operators.
 *
 * loader.c   bytes -> gs_model: container, plan records, tensors; then every operator's own check.
 * session.c  gs_model -> gs_session: arena, prepare every operator, run them in order, time them.
 * ops/<x>.c  one operator a file: check, prepare, run. Plain reference code lives there (or in kernels/scalar);
 *            machine-specific loops only in kernels/.
 */
#ifndef GS_CORE_H
#define GS_CORE_H
#include <stdarg.h>
#include <stdbool.h>

#include "gossamer.h"
#include "kernels.h"
#include "plan_format.h"

typedef struct {
  const char *name;
  gs_dtype dtype;
  uint8_t layout, rank, place;
  uint32_t dims[GS_MAX_RANK];
  uint32_t pstride;
  float scale;
  int32_t zp;
  uint64_t offset, size;
  const void *data; /* constants: checked pointer into the bundle, 64-byte aligned when the bundle is; else NULL */
} gs_tensor;

typedef struct {
  uint16_t kind;
  uint32_t n_in, n_out;
  const gs_tensor **in;  /* NULL entries are absent */
  const gs_tensor **out;
  const char *name, *source;
  const int32_t *p; /* [28], aligned copies */
  const float *f;   /* [8] */
} gs_op;

struct gs_model {
  const uint8_t *bytes;
  size_t size;
  gs_tensor *tensors;
  uint32_t n_tensors;
  gs_op *ops;
  uint32_t n_ops;
  const gs_tensor **inputs, **outputs;
  uint32_t n_inputs, n_outputs;
  uint64_t arena_size;
  const uint8_t *manifest;
  size_t manifest_size;
  struct { const uint8_t *data; size_t size; uint32_t backend; } externs[GS_CAP_SECTIONS];
  uint32_t n_externs;
  void *memory; /* everything above that was allocated, in one or a few blocks owned by loader.c */
};

/* Per operator of a session. */
typedef struct gs_node gs_node;
struct gs_node {
  const gs_op *op;
  const void **in; /* resolved addresses in arena or bundle; NULL for absent */
  void **out;
  void *state;     /* made by prepare, freed by release */
  const char *kernel; /* name for reports; set by prepare */
  uint64_t macs, macs_executed, weight_count, weight_nonzero;
  size_t state_bytes; /* for gs_session_bytes */
  gs_node *inner;     /* CONV: the depthwise operator that it runs itself, tile by tile, or NULL (fuse.c) */
  bool is_inner;      /* runs inside another node; its own turn is skipped */
};

typedef struct gs_pool gs_pool;

/* Bounds of the stored values of an int8 tensor, both inclusive. */
typedef struct {
  int32_t lo, hi;
} gs_range;

struct gs_session {
  const gs_model *model;
  gs_options options; /* isa_cap resolved: never GS_ISA_BEST */
  uint8_t *arena;     /* 64-byte aligned, zeroed at open, GS_ARENA_SLACK bytes behind it */
  gs_node *nodes;
  gs_range *ranges;   /* per tensor of the model; within the block of nodes */
  const gs_loops *loops;
  void *scratch;      /* shared by all operators, one slice per thread; 64-byte aligned */
  size_t scratch_size; /* of one thread's slice, multiple of 64 */
  gs_pool *pool;      /* NULL when threads == 1 */
  uint64_t *inner_ns; /* per thread, while a timed run is under way: what inner nodes took; else NULL */
};

typedef struct {
  const char *name; /* "Conv" */
  /* Everything about this operator's operands and parameters that run relies on. p and f values are arbitrary here
   * except that f holds no NaN; tensors are individually valid (dims, size, offset in range), operand counts are not. */
  gs_status (*check)(const gs_op *op, gs_error *error);
  /* Picks kernels, packs weights, sets node->kernel/macs/..., calls gs_session_need_scratch. NULL: nothing to do. */
  gs_status (*prepare)(gs_session *s, gs_node *node, gs_error *error);
  gs_status (*run)(gs_session *s, gs_node *node, gs_error *error);
  void (*release)(gs_node *node); /* NULL: nothing to free */
} gs_op_type;

/* ops/table.c: by kind; entries without a name do not exist. */
extern const gs_op_type gs_op_types[GS_OP_COUNT];

/* error.c */
gs_status gs_fail(gs_error *error, gs_status code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The same, with the operator's name and source in front. */
gs_status gs_fail_op(gs_error *error, gs_status code, const gs_op *op, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Checked size arithmetic: false on overflow. */
static inline bool gs_mul_size(uint64_t a, uint64_t b, uint64_t *out) { return !__builtin_mul_overflow(a, b, out); }
static inline bool gs_add_size(uint64_t a, uint64_t b, uint64_t *out) { return !__builtin_add_overflow(a, b, out); }

static inline size_t gs_dtype_size(gs_dtype t) {
  return t == GS_S8 || t == GS_U8 ? 1 : t == GS_S16 ? 2 : t == GS_S64 ? 8 : 4;
}
static inline uint32_t gs_block(gs_dtype t) { return t == GS_S8 ? 4u : 1u; }
static inline uint32_t gs_ceil_div(uint32_t a, uint32_t b) { return a / b + (a % b != 0); }
static inline uint64_t gs_elements(const gs_tensor *t) {
  uint64_t n = 1;
  for (uint32_t i = 0; i < t->rank; i++) n *= t->dims[i]; /* the loader capped it */
  return n;
}
bool gs_same_shape(const gs_tensor *a, const gs_tensor *b);
/* Index (in elements) of logical coordinates, for any layout. */
size_t gs_index(const gs_tensor *t, const uint32_t *coord);

/* session.c: operators call it from prepare with the bytes that one thread needs while running. */
void gs_session_need_scratch(gs_session *s, size_t bytes);

/* src/cpu.c: the best instruction set at or below cap that this machine runs. */
gs_isa gs_isa_within(gs_isa cap);
static inline void *gs_scratch(const gs_session *s, uint32_t thread) {
  return (uint8_t *)s->scratch + (size_t)thread * s->scratch_size;
}

/* ranges.c: bounds of what an int8 tensor may hold; fill runs once, before operators are prepared. Lanes and pixels of padding
 * are outside of it. */
void gs_ranges_fill(gs_session *s);
gs_range gs_range_of(const gs_session *s, const gs_tensor *t);
/* 7 when every value that a window reads of x, its padding included, lies in 0..127, else 8. */
static inline uint32_t gs_x_bits(const gs_session *s, const gs_tensor *x) {
  gs_range r = gs_range_of(s, x);
  return r.lo >= 0 && x->zp >= 0 ? 7 : 8;
}

/* fuse.c: sets gs_node.inner where the plan allows it; runs once, before operators are prepared. */
void gs_fuse(gs_session *s);

/* session.c: a monotonic clock, in nanoseconds. */
uint64_t gs_now_ns(void);

/* pool.c: runs task(arg, index, thread) for index in [0, n); on the caller's thread alone when pool is NULL. */
typedef void (*gs_task)(void *arg, uint32_t index, uint32_t thread);
gs_pool *gs_pool_open(uint32_t threads);
void gs_pool_close(gs_pool *pool);
void gs_pool_run(gs_pool *pool, uint32_t n, gs_task task, void *arg);

/* alloc.c: 64-byte aligned, zeroed; NULL when memory is out (tests can make the k-th call fail). */
void *gs_alloc(size_t bytes);
void gs_free(void *p);

/* weights.c: checks the weight operands of CONV and GEMM (values in range, index well formed, row sums that fit int32)
 * and, at prepare, decodes them to a canonical matrix (memory released by gs_weights_free). */
gs_status gs_weights_check(const gs_op *op, uint32_t rows, uint32_t kh, uint32_t kw, uint32_t cin, gs_error *error);
typedef struct {
  gs_matrix m;
  void *memory;
  uint64_t nonzero;
} gs_weights;
gs_status gs_weights_decode(const gs_op *op, uint32_t rows, uint32_t kh, uint32_t kw, uint32_t cin, gs_form wanted,
                            gs_weights *out, gs_error *error);
/* Dense int8 of fewer than four input channels: column tap*cin + c instead of tap*4 + c, rounded up to 4 columns. */
gs_status gs_weights_close_up(const gs_op *op, gs_weights *w, uint32_t taps, uint32_t cin, gs_error *error);
void gs_weights_free(gs_weights *w);

/* rounding, used by every scalar rule of NUMERICS.md */
static inline float gs_rhe(float t) { return (t + 12582912.0f) - 12582912.0f; } /* |t| < 2^22 */
static inline int32_t gs_requantize(float v, int32_t zp, int32_t lo, int32_t hi) {
  float l = (float)(lo - zp), h = (float)(hi - zp);
  float t = v > l ? v : l;
  t = t < h ? t : h;
  return (int32_t)gs_rhe(t) + zp;
}
#define GS_ARENA_SLACK 64u
#endif
