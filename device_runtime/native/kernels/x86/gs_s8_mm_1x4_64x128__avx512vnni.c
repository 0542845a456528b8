/* Sparse int8 in 1x4 blocks, in steps of four entries: every row has its own groups, one load a vpdpbusd. Loads are what this
 * kernel waits for (two a cycle, scalar ones among them), so a step takes its four weights in one load and its four offsets in
 * another: 0.59 instead of 0.82 cycles a vpdpbusd. K is cut into slices that stay in the first cache; where there are several,
 * the sums of 64 rows wait on the stack. */
#include "avx512.h"

#define CHUNK 64u /* rows whose sums wait between slices: 64 pixels of them take 16 KiB */

/* acc[v] += the entries [first, last) of one row, in steps. nv vectors of 16 pixels; several sets of sums hide the four cycles
 * of a vpdpbusd. */
GS_INLINE void add_steps(const gs_packed *w, uint32_t first, uint32_t last, const uint8_t *x, const int nv, __m512i acc[8]) {
  const int sets = nv >= 6 ? 1 : nv >= 4 ? 2 : 4;
  const uint16_t *off = (const uint16_t *)w->off + (size_t)first * 4, *end = (const uint16_t *)w->off + (size_t)last * 4;
  const int8_t *val = (const int8_t *)w->val + (size_t)first * 16;
  __m512i more[3][8];
  GS_UNROLL for (int s = 0; s < sets - 1; s++) GS_UNROLL for (int v = 0; v < nv; v++) more[s][v] = _mm512_setzero_si512();
  for (; off < end; off += 4, val += 16) {
    uint64_t o;
    memcpy(&o, off, 8);
    /* Hidden, or the shuffles become four loads again. */
    const __m512i four = gs_opaque512(_mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)val)));
    const __m512i w4[4] = {_mm512_shuffle_epi32(four, 0x00), _mm512_shuffle_epi32(four, 0x55), _mm512_shuffle_epi32(four, 0xaa),
                           _mm512_shuffle_epi32(four, 0xff)};
    GS_UNROLL for (int e = 0; e < 4; e++) {
      const uint8_t *xe = x + ((o >> (16 * e) & 0xffff) << 6);
      __m512i *to = e % sets == 0 ? acc : more[e % sets - 1];
      GS_UNROLL for (int v = 0; v < nv; v++) to[v] = _mm512_dpbusd_epi32(to[v], _mm512_loadu_si512(xe + 64 * v), w4[e]);
    }
  }
  GS_UNROLL for (int s = 0; s < sets - 1; s++) GS_UNROLL for (int v = 0; v < nv; v++) acc[v] = _mm512_add_epi32(acc[v], more[s][v]);
}

GS_INLINE void first_sums(const gs_packed *w, size_t row, const int nv, __m512i acc[8]) {
  GS_UNROLL for (int v = 0; v < nv; v++) acc[v] = _mm512_set1_epi32(((const int32_t *)w->bias)[row]);
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

GS_INLINE void store_quad(const gs_mm_args *a, const quad_512 *t, uint32_t block, uint32_t pixel, const int nv, const gs_rq512q *q) {
  int8_t *y = (int8_t *)a->y + (size_t)block * a->y_stride + (size_t)pixel * 4;
  GS_UNROLL for (int v = 0; v < nv; v++) _mm512_storeu_si512(y + 64 * v, gs_rq512q_quad(t->low[v], t->high[v], q));
}

/* All of K in one slice: sums stay in registers. */
GS_INLINE void whole(const gs_mm_args *a, uint32_t block, uint32_t pixel, const int nv, const gs_rq512q *q) {
  const gs_packed *w = a->w;
  const uint8_t *x = (const uint8_t *)a->x + (size_t)pixel * 4;
  quad_512 t;
  GS_UNROLL for (int r = 0; r < 4; r++) {
    const size_t row = (size_t)block * 4 + r;
    __m512i acc[8];
    first_sums(w, row, nv, acc);
    add_steps(w, w->start[row], w->start[row + 1], x, nv, acc);
    take_row(&t, r, nv, acc, a->q.scale[row], q);
  }
  store_quad(a, &t, block, pixel, nv, q);
}

/* Quads [b0, b1) of a chunk, slice after slice. */
GS_INLINE void sliced(const gs_mm_args *a, uint32_t b0, uint32_t b1, uint32_t pixel, const int nv, const gs_rq512q *q) {
  const gs_packed *w = a->w;
  const size_t lists = (size_t)w->row_blocks * 4;
  __m512i sums[CHUNK][4];
  for (uint32_t s = 0; s < w->slices; s++) {
    const uint8_t *x = (const uint8_t *)a->x + (size_t)gs_slice_first(w->groups, w->slices, s) * a->x_stride + (size_t)pixel * 4;
    for (uint32_t b = b0; b < b1; b++) {
      quad_512 t;
      GS_UNROLL for (int r = 0; r < 4; r++) {
        const size_t row = (size_t)b * 4 + r;
        const uint32_t *start = w->start + s * lists + row;
        __m512i acc[8], *waiting = sums[row - (size_t)b0 * 4];
        if (s == 0) first_sums(w, row, nv, acc);
        else GS_UNROLL for (int v = 0; v < nv; v++) acc[v] = waiting[v];
        add_steps(w, start[0], start[1], x, nv, acc);
        if (s + 1 < w->slices) GS_UNROLL for (int v = 0; v < nv; v++) waiting[v] = acc[v];
        else take_row(&t, r, nv, acc, a->q.scale[row], q);
      }
      if (s + 1 == w->slices) store_quad(a, &t, b, pixel, nv, q);
    }
  }
}

GS_INLINE void pass(const gs_mm_args *a, uint32_t pixel, const int nv, const gs_rq512q *q) {
  if (a->w->slices == 1) {
    for (uint32_t b = a->block0; b < a->block1; b++) whole(a, b, pixel, nv, q);
  } else if (nv <= 4) {
    for (uint32_t b = a->block0; b < a->block1; b += CHUNK / 4)
      sliced(a, b, b + CHUNK / 4 < a->block1 ? b + CHUNK / 4 : a->block1, pixel, nv, q);
  }
}

GS_TARGET void gs_s8_mm_1x4_64x128__avx512vnni(const gs_mm_args *a) {
  const gs_rq512q q = gs_rq512q_make(&a->q);
  /* As few passes as the first cache allows, of nearly equal width. */
  const uint32_t vectors = a->npx / 16, most = a->w->groups * 8 <= 512 ? 8 : 4, passes = (vectors + most - 1) / most;
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
