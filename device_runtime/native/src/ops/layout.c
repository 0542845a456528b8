/* Layout: row-major NCHW or NHWC to channel-blocked and back, 4 bytes at a time. */
#include <string.h>

#include "common.h"
#include "ops.h"

#define SPAN_PX 1024u /* pixels of one task */
#define TILE_PX 64u   /* pixels that a pass over the channels shares */

gs_status gs_layout_check(const gs_op *op, gs_error *error) {
  GS_TRY(gs_check_operands(op, 1, 1, 1, error));
  const gs_tensor *x = op->in[0], *y = op->out[0];
  if (x->dtype != y->dtype) GS_REFUSE("input and output have different element types");
  if (x->layout == y->layout) GS_REFUSE("input and output have the same layout");
  const gs_tensor *cb = x->layout == GS_LAYOUT_CB ? x : y, *row = cb == x ? y : x;
  if (row->rank != 4) GS_REFUSE("rank is %u, must be 4", row->rank);
  GS_TRY(gs_check_param(op, 0, "order of the row-major side", 0, 1, error));
  const uint32_t *d = cb->dims;
  uint32_t nchw[4] = {d[0], d[1], d[2], d[3]}, nhwc[4] = {d[0], d[2], d[3], d[1]};
  return gs_check_shape(op, row, "the row-major side", 4, op->p[0] ? nhwc : nchw, error);
}

/* One image: pixels [p0, p1) of channels c, `area` pixels a plane. */
typedef struct {
  uint8_t *row, *cb;
  uint32_t channels, area, pstride;
  const gs_loops *loops;
} image;

static uint32_t lanes_of(const image *m, uint32_t group) {
  return m->channels - group * 4 < 4 ? m->channels - group * 4 : 4;
}

static void nchw_s8_to_cb(const image *m, uint32_t p0, uint32_t p1) {
  for (uint32_t g = 0; g * 4 < m->channels; g++) {
    const uint8_t *from = m->row + (size_t)g * 4 * m->area + p0, *plane[4] = {from, from, from, from};
    for (uint32_t l = 1; l < lanes_of(m, g); l++) plane[l] = from + (size_t)l * m->area;
    m->loops->interleave(plane, lanes_of(m, g), p1 - p0, (gs_word *)m->cb + (size_t)g * m->pstride + p0);
  }
}

static void cb_to_nchw_s8(const image *m, uint32_t p0, uint32_t p1) {
  for (uint32_t c = 0; c < m->channels; c++) {
    const gs_word *from = (const gs_word *)m->cb + (size_t)(c / 4) * m->pstride;
    uint8_t *to = m->row + (size_t)c * m->area;
    for (uint32_t p = p0; p < p1; p++) to[p] = (uint8_t)(from[p] >> c % 4 * 8);
  }
}

static void nhwc_s8_to_cb(const image *m, uint32_t p0, uint32_t p1) {
  for (uint32_t g = 0; g * 4 < m->channels; g++)
    m->loops->spread(m->row + (size_t)p0 * m->channels + (size_t)g * 4, p1 - p0, m->channels, lanes_of(m, g),
                     (gs_word *)m->cb + (size_t)g * m->pstride + p0);
}

static void cb_to_nhwc_s8(const image *m, uint32_t p0, uint32_t p1) {
  for (uint32_t g = 0; g * 4 < m->channels; g++) {
    const gs_word *from = (const gs_word *)m->cb + (size_t)g * m->pstride;
    uint8_t *to = m->row + (size_t)p0 * m->channels + g * 4;
    uint32_t lanes = lanes_of(m, g);
    for (uint32_t p = p0; p < p1; p++, to += m->channels) {
      if (lanes == 4) memcpy(to, &from[p], 4);
      else
        for (uint32_t l = 0; l < lanes; l++) to[l] = (uint8_t)(from[p] >> 8 * l);
    }
  }
}

static void move_f32(const image *m, bool nhwc, bool to_cb, uint32_t p0, uint32_t p1) {
  for (uint32_t c = 0; c < m->channels; c++) {
    gs_word *cb = (gs_word *)m->cb + (size_t)c * m->pstride, *row = (gs_word *)m->row;
    if (!nhwc) {
      gs_word *plane = row + (size_t)c * m->area + p0;
      memcpy(to_cb ? cb + p0 : plane, to_cb ? plane : cb + p0, (size_t)(p1 - p0) * 4);
    } else if (to_cb) {
      for (uint32_t p = p0; p < p1; p++) cb[p] = row[(size_t)p * m->channels + c];
    } else {
      for (uint32_t p = p0; p < p1; p++) row[(size_t)p * m->channels + c] = cb[p];
    }
  }
}

typedef struct {
  const gs_session *s;
  const gs_node *node;
} job;

static void layout_task(void *arg, uint32_t index, uint32_t thread) {
  (void)thread;
  const job *j = arg;
  const gs_node *node = j->node;
  const gs_op *op = node->op;
  bool to_cb = op->out[0]->layout == GS_LAYOUT_CB, nhwc = op->p[0] != 0;
  const gs_tensor *t = to_cb ? op->out[0] : op->in[0];
  uint32_t area = t->dims[2] * t->dims[3], spans = gs_ceil_div(area, SPAN_PX);
  uint32_t n = index / spans, first = index % spans * SPAN_PX;
  uint32_t last = area - first < SPAN_PX ? area : first + SPAN_PX;
  size_t item = gs_dtype_size(t->dtype);
  uint8_t *in = (uint8_t *)(uintptr_t)node->in[0], *out = node->out[0];
  image m = {to_cb ? in : out, to_cb ? out : in, t->dims[1], area, t->pstride, j->s->loops};
  m.row += (size_t)n * t->dims[1] * area * item;
  m.cb += (size_t)n * gs_plane_groups(t) * t->pstride * 4;
  uint32_t step = nhwc ? TILE_PX : SPAN_PX; /* planes gain nothing from small tiles */
  for (uint32_t p0 = first; p0 < last; p0 += step) {
    uint32_t p1 = last - p0 < step ? last : p0 + step;
    if (t->dtype == GS_F32) move_f32(&m, nhwc, to_cb, p0, p1);
    else if (to_cb) (nhwc ? nhwc_s8_to_cb : nchw_s8_to_cb)(&m, p0, p1);
    else (nhwc ? cb_to_nhwc_s8 : cb_to_nchw_s8)(&m, p0, p1);
  }
}

gs_status gs_layout_run(gs_session *s, gs_node *node, gs_error *error) {
  (void)error;
  const gs_tensor *y = node->op->out[0], *t = y->layout == GS_LAYOUT_CB ? y : node->op->in[0];
  job j = {s, node};
  gs_run_batches(s, t->dims[0] * gs_ceil_div(t->dims[2] * t->dims[3], SPAN_PX), layout_task, &j);
  return GS_OK;
}
