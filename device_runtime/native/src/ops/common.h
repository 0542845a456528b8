/* What the operators share: checks of operands and parameters, windows, word moves. */
#ifndef GS_OPS_COMMON_H
#define GS_OPS_COMMON_H
#include "../core.h"

#define GS_TRY(call)                        \
  do {                                      \
    gs_status status_ = (call);             \
    if (status_ != GS_OK) return status_;   \
  } while (0)
#define GS_REFUSE(...) return gs_fail_op(error, GS_E_FORMAT, op, __VA_ARGS__)

#define GS_SCRATCH_MAX (1ull << 30) /* bytes one thread may ask for */

/* Counts of operands: exactly n_in inputs, of which bit i of `required` must be present, and n_out outputs, all in the
 * arena. No operand has an element count of zero. */
gs_status gs_check_operands(const gs_op *op, uint32_t n_in, uint32_t required, uint32_t n_out, gs_error *error);
/* An operand's type and layout (layout -1: any). `what` names it in the message. */
gs_status gs_check_type(const gs_op *op, const gs_tensor *t, const char *what, gs_dtype dtype, int layout,
                        gs_error *error);
/* A constant of this type, ROW, with exactly n elements. */
gs_status gs_check_const(const gs_op *op, const gs_tensor *t, const char *what, gs_dtype dtype, uint64_t n,
                         gs_error *error);
gs_status gs_check_shape(const gs_op *op, const gs_tensor *t, const char *what, uint32_t rank, const uint32_t *dims,
                         gs_error *error);
/* Same rank and dims. */
gs_status gs_check_same_shape(const gs_op *op, const gs_tensor *x, const gs_tensor *y, gs_error *error);
/* Same scale and zero point. */
gs_status gs_check_same_quant(const gs_op *op, const gs_tensor *x, const gs_tensor *y, gs_error *error);
/* p[slot] within [lo, hi]. */
gs_status gs_check_param(const gs_op *op, uint32_t slot, const char *what, int64_t lo, int64_t hi, gs_error *error);
/* f[slot] finite and within 1e-30..1e30. */
gs_status gs_check_multiplier(const gs_op *op, uint32_t slot, gs_error *error);
/* QLO/QHI of S8, LO/HI of F32. */
gs_status gs_check_clamp(const gs_op *op, gs_dtype dtype, gs_error *error);
/* Bias (absent, or one per row) and, for S8, scale (one per row, finite, 0 or within 1e-30..1e30). */
gs_status gs_check_bias_scale(const gs_op *op, gs_dtype dtype, const gs_tensor *bias, const gs_tensor *scale,
                              uint32_t rows, gs_error *error);

/* Whether the sum of any k products and a row's bias, times its scale, fits 32 bits; of checked operands, true for f32. */
bool gs_is_tame(const gs_tensor *bias, const gs_tensor *scale, uint64_t k);

typedef struct {
  uint32_t kh, kw, sh, sw, dh, dw, pt, pl, pb, pr;
} gs_window;
gs_window gs_window_of(const gs_op *op);
/* The window's parameters, and that it takes x (rank 4, CB) to y's height and width. */
gs_status gs_check_window(const gs_op *op, const gs_tensor *x, const gs_tensor *y, gs_error *error);

/* Output positions o in [*first, *last) of one axis whose tap at `offset` (= k*dilation - padding) is inside the image. */
void gs_valid_range(uint32_t out, uint32_t stride, int64_t offset, uint32_t size, uint32_t *first, uint32_t *last);

static inline uint32_t gs_plane_groups(const gs_tensor *t) { return gs_ceil_div(t->dims[1], gs_block(t->dtype)); }
static inline uint32_t gs_round_px(uint32_t n) { return n == 1 ? 1 : (n + GS_PX - 1) / GS_PX * GS_PX; }
static inline gs_word gs_pad_word(const gs_tensor *x) {
  return x->dtype == GS_S8 ? (gs_word)(uint8_t)(int8_t)x->zp * 0x01010101u : 0;
}
static inline float gs_clampf(float v, float lo, float hi) {
  float t = v > lo ? v : lo;
  return t < hi ? t : hi;
}
/* Threads of a session that work is split for. */
static inline uint32_t gs_threads(const gs_session *s) { return s->pool ? s->options.threads : 1; }
/* Asks for scratch of one thread, refusing what no machine here holds. */
gs_status gs_want_scratch(gs_session *s, const gs_op *op, uint64_t bytes, gs_error *error);

/* Both have one type, shape, layout and pixel stride: element i of one is element i of the other. */
gs_status gs_check_same_layout(const gs_op *op, const gs_tensor *x, const gs_tensor *y, gs_error *error);
/* Elements as stored, padding included: what flat loops over one layout go through. */
static inline size_t gs_stored_elements(const gs_tensor *t) { return (size_t)t->size / gs_dtype_size(t->dtype); }

/* gs_pool_run for tasks that are shorter than a hand-over: several of them at a time. */
void gs_run_batches(const gs_session *s, uint32_t n, gs_task task, void *arg);

/* Cuts [0, n) into chunks over the session's threads. */
typedef void (*gs_span_task)(void *arg, size_t first, size_t n, uint32_t thread);
void gs_run_spans(const gs_session *s, size_t n, gs_span_task task, void *arg);

#endif
