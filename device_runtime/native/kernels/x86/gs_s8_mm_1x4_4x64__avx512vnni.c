/* Sparse int8 in 1x4 blocks: every row has its own groups. Two entries run side by side, because one alone would wait for
 * the latency of vpdpbusd. */
#include "avx512.h"

GS_INLINE void tile(const gs_mm_args *a, uint32_t block, uint32_t pixel, const int nv) {
  const gs_packed *w = a->w;
  const uint8_t *x = (const uint8_t *)a->x + (size_t)pixel * 4;
  const gs_rq512 q = gs_rq512_make(&a->q);
  __m512i out[4][4];
  for (uint32_t r = 0; r < 4; r++) {
    const size_t row = (size_t)block * 4 + r;
    const uint32_t last = w->start[row + 1];
    uint32_t e = w->start[row];
    const int8_t *val = (const int8_t *)w->val;
    __m512i acc[4], odd[4];
    GS_UNROLL for (int v = 0; v < nv; v++) {
      acc[v] = _mm512_set1_epi32(((const int32_t *)w->bias)[row]);
      odd[v] = _mm512_setzero_si512();
    }
    for (; e + 2 <= last; e += 2) {
      const uint8_t *x0 = x + w->off[e], *x1 = x + w->off[e + 1];
      __m512i w0 = _mm512_set1_epi32(gs_load_i32(val + (size_t)e * 4));
      __m512i w1 = _mm512_set1_epi32(gs_load_i32(val + (size_t)e * 4 + 4));
      GS_UNROLL for (int v = 0; v < nv; v++) {
        acc[v] = _mm512_dpbusd_epi32(acc[v], _mm512_loadu_si512(x0 + 64 * v), w0);
        odd[v] = _mm512_dpbusd_epi32(odd[v], _mm512_loadu_si512(x1 + 64 * v), w1);
      }
    }
    if (e < last) {
      const uint8_t *x0 = x + w->off[e];
      __m512i w0 = _mm512_set1_epi32(gs_load_i32(val + (size_t)e * 4));
      GS_UNROLL for (int v = 0; v < nv; v++) acc[v] = _mm512_dpbusd_epi32(acc[v], _mm512_loadu_si512(x0 + 64 * v), w0);
    }
    const __m512 scale = _mm512_set1_ps(a->q.scale[row]);
    GS_UNROLL for (int v = 0; v < nv; v++) out[r][v] = gs_rq512_acc(_mm512_add_epi32(acc[v], odd[v]), scale, &q);
  }
  int8_t *y = (int8_t *)a->y + (size_t)block * a->y_stride + (size_t)pixel * 4;
  GS_UNROLL for (int v = 0; v < nv; v++)
    _mm512_storeu_si512(y + 64 * v, gs_quad512(out[0][v], out[1][v], out[2][v], out[3][v]));
}

GS_TARGET void gs_s8_mm_1x4_4x64__avx512vnni(const gs_mm_args *a) { GS_FOR_TILES_512(tile) }
