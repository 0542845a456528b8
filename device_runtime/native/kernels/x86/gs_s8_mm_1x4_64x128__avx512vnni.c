/* Sparse int8 in 1x4 blocks, in sorted lists (kernels.h): every row has its own groups, one load a vpdpbusd. Loads are what this
 * kernel waits for (two a cycle, scalar ones among them), so four entries take their weights in one load and their offsets in
 * another: 0.59 instead of 0.82 cycles a vpdpbusd. K is cut into slices that stay in the first cache; where there are several, the
 * sums of a block of 64 rows lie on the stack, and rows are taken in order of their length: loops end where the processor
 * expects them to. */
#include "avx512.h"

#define ROWS 64

/* to[v] += one entry: a group at xe times four weights. */
GS_INLINE void entry(__m512i *to, const uint8_t *xe, __m512i weights, const int nv) {
  GS_UNROLL for (int v = 0; v < nv; v++) to[v] = _mm512_dpbusd_epi32(to[v], _mm512_loadu_si512(xe + 64 * v), weights);
}

/* acc[v] += n entries of one row. nv vectors of 16 pixels; several sets of sums hide the four cycles of a vpdpbusd. */
GS_INLINE void add_entries(const uint16_t *off, const int8_t *val, uint32_t n, const uint8_t *x, const int nv, __m512i acc[8]) {
  const int sets = nv >= 6 ? 1 : nv >= 4 ? 2 : 4;
  __m512i more[3][8];
  GS_UNROLL for (int s = 0; s < sets - 1; s++) GS_UNROLL for (int v = 0; v < nv; v++) more[s][v] = _mm512_setzero_si512();
  for (uint32_t steps = n / 4; steps != 0; steps--, off += 4, val += 16) {
    uint64_t o;
    memcpy(&o, off, 8);
    /* Hidden, or the shuffles become four loads again. */
    const __m512i four = gs_opaque512(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)val)));
    const __m512i w4[4] = {_mm512_shuffle_epi32(four, 0x00), _mm512_shuffle_epi32(four, 0x55), _mm512_shuffle_epi32(four, 0xaa),
                           _mm512_shuffle_epi32(four, 0xff)};
    GS_UNROLL for (int e = 0; e < 4; e++)
      entry(e % sets == 0 ? acc : more[e % sets - 1], x + ((o >> (16 * e) & 0xffff) << 6), w4[e], nv);
  }
  if (n & 2) {
    entry(acc, x + ((size_t)off[0] << 6), _mm512_set1_epi32(gs_load_i32(val)), nv);
    entry(sets > 1 ? more[0] : acc, x + ((size_t)off[1] << 6), _mm512_set1_epi32(gs_load_i32(val + 4)), nv);
    off += 2;
    val += 8;
  }
  if (n & 1) entry(acc, x + ((size_t)off[0] << 6), _mm512_set1_epi32(gs_load_i32(val)), nv);
  GS_UNROLL for (int s = 0; s < sets - 1; s++) GS_UNROLL for (int v = 0; v < nv; v++) acc[v] = _mm512_add_epi32(acc[v], more[s][v]);
}

/* The rows of one block in one slice, in the order of their lists, added to sums[row of the block]. */
GS_INLINE void slice(const gs_mm_args *a, uint32_t block, uint32_t s, uint32_t pixel, const int nv, __m512i *sums) {
  const gs_packed *w = a->w;
  const size_t first = ((size_t)s * w->row_blocks + block) * ROWS;
  const uint32_t *order = w->order + first, *start = w->start + first;
  const uint8_t *x = (const uint8_t *)a->x + (size_t)gs_slice_first(w->groups, w->slices, s) * a->x_stride + (size_t)pixel * 4;
  const int32_t *bias = (const int32_t *)w->bias;
  for (uint32_t i = 0; i < ROWS; i++) {
    __m512i acc[8], *waiting = sums + (size_t)(order[i] - block * ROWS) * (size_t)nv;
    if (s == 0) GS_UNROLL for (int v = 0; v < nv; v++) acc[v] = _mm512_set1_epi32(bias[order[i]]);
    else GS_UNROLL for (int v = 0; v < nv; v++) acc[v] = waiting[v];
    add_entries((const uint16_t *)w->off + start[i], (const int8_t *)w->val + (size_t)start[i] * 4, start[i + 1] - start[i], x, nv, acc);
    GS_UNROLL for (int v = 0; v < nv; v++) waiting[v] = acc[v];
  }
}

GS_INLINE void finish(const gs_mm_args *a, uint32_t block, uint32_t pixel, const int nv, const __m512i *sums, const gs_rq512q *q) {
  const uint32_t left = (a->w->rows + 3) / 4 - block * (ROWS / 4), quads = left < ROWS / 4 ? left : ROWS / 4;
  for (uint32_t i = 0; i < quads; i++, sums += 4 * nv) {
    int8_t *y = (int8_t *)a->y + ((size_t)block * (ROWS / 4) + i) * a->y_stride + (size_t)pixel * 4;
    __m512 scale[4];
    gs_scales512(a->q.scale + (size_t)block * ROWS + i * 4, scale);
    GS_UNROLL for (int v = 0; v < nv; v++)
      _mm512_storeu_si512(y + 64 * v, gs_quad512(sums[v], sums[nv + v], sums[2 * nv + v], sums[3 * nv + v], scale, q));
  }
}

/* Where four rows are turned into bytes: rows 0 and 1, then 2 and 3 meet as 16-bit numbers, so that few registers wait. */
typedef struct {
  __m512i low[8], high[8], one[8];
} quad_512;

GS_INLINE void take_row(quad_512 *t, const int r, const int nv, const __m512i acc[8], float scale, const gs_rq512q *q) {
  const __m512 s = _mm512_set1_ps(scale);
  GS_UNROLL for (int v = 0; v < nv; v++) {
    const __m512i i = gs_rq512q_int(acc[v], s);
    if (r % 2 == 0) t->one[v] = i;
    else if (r == 1) t->low[v] = gs_rq512q_pack(t->one[v], i, q);
    else t->high[v] = gs_rq512q_pack(t->one[v], i, q);
  }
}

/* Four rows of which all of K lies in one slice, in their own order: sums stay in registers. */
GS_INLINE void quad(const gs_mm_args *a, uint32_t block, uint32_t pixel, const int nv, const gs_rq512q *q) {
  const gs_packed *w = a->w;
  const uint8_t *x = (const uint8_t *)a->x + (size_t)pixel * 4;
  int8_t *y = (int8_t *)a->y + (size_t)block * a->y_stride + (size_t)pixel * 4;
  quad_512 t;
  GS_UNROLL for (int r = 0; r < 4; r++) {
    const size_t row = (size_t)block * 4 + r;
    const uint32_t first = w->start[row];
    __m512i acc[8];
    GS_UNROLL for (int v = 0; v < nv; v++) acc[v] = _mm512_set1_epi32(((const int32_t *)w->bias)[row]);
    add_entries((const uint16_t *)w->off + first, (const int8_t *)w->val + (size_t)first * 4, w->start[row + 1] - first, x, nv, acc);
    take_row(&t, r, nv, acc, a->q.scale[row], q);
  }
  GS_UNROLL for (int v = 0; v < nv; v++) _mm512_storeu_si512(y + 64 * v, gs_rq512q_quad(t.low[v], t.high[v], q));
}

GS_INLINE void pass(const gs_mm_args *a, uint32_t pixel, const int nv, const gs_rq512q *q) {
  const uint32_t quads = (a->w->rows + 3) / 4, end = a->block1 * (ROWS / 4);
  if (a->w->slices == 1) {
    for (uint32_t b = a->block0 * (ROWS / 4); b < end && b < quads; b++) quad(a, b, pixel, nv, q);
  } else if (nv <= 4) {
    __m512i sums[ROWS * 4];
    for (uint32_t b = a->block0; b < a->block1; b++) {
      for (uint32_t s = 0; s < a->w->slices; s++) slice(a, b, s, pixel, nv, sums);
      finish(a, b, pixel, nv, sums, q);
    }
  }
}

GS_TARGET void gs_s8_mm_1x4_64x128__avx512vnni(const gs_mm_args *a) {
  const gs_rq512q q = gs_rq512q_make(&a->q);
  /* As few passes as the first cache allows, of nearly equal width. */
  const uint32_t vectors = a->npx / 16, most = a->w->groups <= 64 ? 8 : 4, passes = (vectors + most - 1) / most;
  for (uint32_t i = 0, p = 0; i < passes; i++) {
    const uint32_t n = (vectors + i) / passes;
    if (n == 8) pass(a, p, 8, &q);
    else if (n == 7) pass(a, p, 7, &q);
    else if (n == 6) pass(a, p, 6, &q);
    else if (n == 5) pass(a, p, 5, &q);
    else if (n == 4) pass(a, p, 4, &q);
    else if (n == 3) pass(a, p, 3, &q);
    else if (n == 2) pass(a, p, 2, &q);
    else pass(a, p, 1, &q);
    p += n * 16;
  }
}
