/* Copies by one index map per dimension, rows of the last dimension at a time. */
#include "remap.h"

#include <string.h>

gs_status gs_remap_open(gs_node *node, gs_remap **remap, gs_error *error) {
  const gs_tensor *y = node->op->out[0];
  uint64_t n = 0;
  for (uint32_t d = 0; d < y->rank; d++) n += y->dims[d];
  uint64_t bytes = sizeof(gs_remap) + n * sizeof(int32_t);
  gs_remap *r = bytes > GS_SCRATCH_MAX ? NULL : gs_alloc((size_t)bytes);
  if (!r) return gs_fail_op(error, GS_E_MEMORY, node->op, "no memory for its index maps");
  int32_t *at = (int32_t *)(r + 1);
  for (uint32_t d = 0; d < y->rank; d++) {
    r->map[d] = at;
    at += y->dims[d];
  }
  node->state = *remap = r;
  node->state_bytes = (size_t)bytes;
  return GS_OK;
}

static bool channels_move_in_groups(const gs_tensor *y, const int32_t *map) {
  for (uint32_t c = 0; c < y->dims[1]; c++) {
    uint32_t first = c / 4 * 4;
    if (map[first] < 0 ? map[c] >= 0 : map[first] % 4 != 0 || map[c] != map[first] + (int32_t)(c - first)) return false;
  }
  return true;
}

void gs_remap_finish(const gs_node *node, gs_remap *r) {
  const gs_tensor *y = node->op->out[0];
  r->grouped = y->layout == GS_LAYOUT_CB && y->dtype == GS_S8 && channels_move_in_groups(y, r->map[1]);
  if (y->rank == 0) return;
  const int32_t *map = r->map[y->rank - 1];
  uint32_t n = y->dims[y->rank - 1], i = 0;
  while (i < n && map[i] < 0) i++;
  r->left = i;
  while (i < n && map[i] >= 0 && map[i] == map[r->left] + (int32_t)(i - r->left)) i++;
  r->mid = i - r->left;
  while (i < n && map[i] < 0) i++;
  r->run = i == n;
}

/* One row: elements of `item` bytes, `step` bytes apart in both; from == NULL: all constant. */
static void move_row(const gs_remap *r, const int32_t *map, uint32_t n, const uint8_t *from, uint8_t *to, size_t item,
                     size_t step) {
  if (from && r->run && step == item) {
    for (uint32_t i = 0; i < r->left; i++) memcpy(to + i * item, &r->fill, item);
    if (r->mid) memcpy(to + r->left * item, from + (size_t)map[r->left] * item, r->mid * item);
    for (uint32_t i = r->left + r->mid; i < n; i++) memcpy(to + i * item, &r->fill, item);
    return;
  }
  for (uint32_t i = 0; i < n; i++)
    memcpy(to + i * step, from && map[i] >= 0 ? from + (size_t)map[i] * step : (const uint8_t *)&r->fill, item);
}

static void run_row_major(const gs_node *node, const gs_remap *r) {
  const gs_tensor *x = node->op->in[0], *y = node->op->out[0];
  size_t item = gs_dtype_size(y->dtype);
  uint32_t coord[GS_MAX_RANK] = {0}, outer = y->rank ? y->rank - 1 : 0, n = y->rank ? y->dims[outer] : 1;
  uint8_t *to = node->out[0];
  static const int32_t zero = 0;
  for (;;) {
    size_t at = 0;
    bool inside = true;
    for (uint32_t d = 0; d < outer; d++) {
      int32_t i = r->map[d][coord[d]];
      inside &= i >= 0;
      at = at * x->dims[d] + (i >= 0 ? (size_t)i : 0);
    }
    if (y->rank) at *= x->dims[outer];
    move_row(r, y->rank ? r->map[outer] : &zero, n, inside ? (const uint8_t *)node->in[0] + at * item : NULL, to, item, item);
    to += n * item;
    uint32_t d = outer;
    while (d > 0 && ++coord[d - 1] == y->dims[d - 1]) coord[--d] = 0;
    if (d == 0) return;
  }
}

/* One plane of words, or of every fourth byte. */
static void plane_rows(const gs_remap *r, const gs_tensor *x, const gs_tensor *y, const uint8_t *from, uint8_t *to,
                       size_t item) {
  for (uint32_t h = 0; h < y->dims[2]; h++) {
    int32_t sh = r->map[2][h];
    move_row(r, r->map[3], y->dims[3], from && sh >= 0 ? from + (size_t)sh * x->dims[3] * 4 : NULL,
             to + (size_t)h * y->dims[3] * 4, item, 4);
  }
}

static void remap_image(void *arg, uint32_t image, uint32_t thread) {
  (void)thread;
  const gs_node *node = arg;
  const gs_remap *r = node->state;
  const gs_tensor *x = node->op->in[0], *y = node->op->out[0];
  uint32_t b = gs_block(y->dtype), unit = r->grouped ? 4 : 1;
  int32_t sn = r->map[0][image];
  for (uint32_t c = 0; c < y->dims[1]; c += unit) {
    int32_t sc = r->map[1][c];
    const uint8_t *from = NULL;
    if (sn >= 0 && sc >= 0)
      from = (const uint8_t *)node->in[0] +
             (((size_t)sn * gs_plane_groups(x) + (uint32_t)sc / b) * x->pstride * 4 + (uint32_t)sc % b);
    uint8_t *to = (uint8_t *)node->out[0] + (((size_t)image * gs_plane_groups(y) + c / b) * y->pstride * 4 + c % b);
    plane_rows(r, x, y, from, to, b == 4 && unit == 1 ? 1 : 4);
  }
}

gs_status gs_remap_run(gs_session *s, gs_node *node, gs_error *error) {
  (void)error;
  const gs_tensor *y = node->op->out[0];
  if (y->layout == GS_LAYOUT_CB) gs_pool_run(s->pool, y->dims[0], remap_image, node);
  else run_row_major(node, node->state);
  return GS_OK;
}

void gs_remap_release(gs_node *node) {
  gs_free(node->state);
  node->state = NULL;
}
