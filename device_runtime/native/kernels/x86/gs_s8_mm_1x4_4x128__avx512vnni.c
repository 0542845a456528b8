/* Sparse int8 in 1x4 blocks: every row has its own groups, one load a vpdpbusd. 128 pixels at a time spread the loads of
 * weight and offset; at 64 and fewer two entries run side by side, because one alone would wait for vpdpbusd. */
#include "avx512.h"

GS_INLINE void tile(const gs_mm_args *a, uint32_t block, uint32_t pixel, const int nv, const gs_rq512q *q) {
  const gs_packed *w = a->w;
  const uint8_t *x = (const uint8_t *)a->x + (size_t)pixel * 4;
  __m512i out[4][8];
  for (uint32_t r = 0; r < 4; r++) {
    const size_t row = (size_t)block * 4 + r;
    const uint32_t last = w->start[row + 1];
    uint32_t e = w->start[row];
    const int8_t *val = (const int8_t *)w->val;
    __m512i acc[8], odd[4];
    GS_UNROLL for (int v = 0; v < nv; v++) {
      acc[v] = _mm512_set1_epi32(((const int32_t *)w->bias)[row]);
      if (nv <= 4) odd[v] = _mm512_setzero_si512();
    }
    for (; nv <= 4 && e + 2 <= last; e += 2) {
      const uint8_t *x0 = x + w->off[e], *x1 = x + w->off[e + 1];
      __m512i w0 = _mm512_set1_epi32(gs_load_i32(val + (size_t)e * 4));
      __m512i w1 = _mm512_set1_epi32(gs_load_i32(val + (size_t)e * 4 + 4));
      GS_UNROLL for (int v = 0; v < nv; v++) {
        acc[v] = _mm512_dpbusd_epi32(acc[v], _mm512_loadu_si512(x0 + 64 * v), w0);
        odd[v] = _mm512_dpbusd_epi32(odd[v], _mm512_loadu_si512(x1 + 64 * v), w1);
      }
    }
    for (; e < last; e++) {
      const uint8_t *x0 = x + w->off[e];
      __m512i w0 = _mm512_set1_epi32(gs_load_i32(val + (size_t)e * 4));
      GS_UNROLL for (int v = 0; v < nv; v++) acc[v] = _mm512_dpbusd_epi32(acc[v], _mm512_loadu_si512(x0 + 64 * v), w0);
    }
    GS_UNROLL for (int v = 0; v < nv; v++) out[r][v] = nv <= 4 ? _mm512_add_epi32(acc[v], odd[v]) : acc[v];
  }
  int8_t *y = (int8_t *)a->y + (size_t)block * a->y_stride + (size_t)pixel * 4;
  __m512 scale[4];
  gs_scales512(a->q.scale + (size_t)block * 4, scale);
  GS_UNROLL for (int v = 0; v < nv; v++)
    _mm512_storeu_si512(y + 64 * v, gs_quad512(out[0][v], out[1][v], out[2][v], out[3][v], scale, q));
}

GS_TARGET void gs_s8_mm_1x4_4x128__avx512vnni(const gs_mm_args *a) {
  const gs_rq512q q = gs_rq512q_make(&a->q);
  uint32_t p = 0;
  for (; p + 128 <= a->npx; p += 128)
    for (uint32_t b = a->block0; b < a->block1; b++) tile(a, b, p, 8, &q);
  for (; p < a->npx;) {
    const uint32_t v = (a->npx - p) / 16;
    for (uint32_t b = a->block0; b < a->block1; b++) {
      if (v >= 4) tile(a, b, p, 4, &q);
      else if (v == 3) tile(a, b, p, 3, &q);
      else if (v == 2) tile(a, b, p, 2, &q);
      else tile(a, b, p, 1, &q);
    }
    p += v >= 4 ? 64 : v * 16;
  }
}
