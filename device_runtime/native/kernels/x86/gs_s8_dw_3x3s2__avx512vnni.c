/* Depthwise int8 3x3 stride 2: as stride 1, with every second pixel picked by the same two shuffles. The last input row of an
 * output row is the first of the next one. */
#include "avx512_dw.h"

typedef struct {
  const int8_t *x; /* first word of the strip in row 0 of the plane */
  size_t x_row;
  int64_t height;
  __mmask16 inside[4];
  __m512i pick;
} rows;

GS_INLINE void load_row(const rows *r, int64_t iy, const gs_dw512 *k, const int nq, __m512i t[4]) {
  const int outside = iy < 0 || iy >= r->height;
  const int8_t *x = r->x + iy * (int64_t)r->x_row;
  GS_UNROLL for (int i = 0; i < nq; i++) {
    __m512i v = outside ? _mm512_xor_si512(k->pad, k->shift) : gs_dw512_load(x + 32 * i, r->inside[i], k);
    t[i] = gs_dw512_taps(v, r->pick, k);
  }
}

GS_INLINE void strip(const gs_dw_args *a, uint32_t ox, const gs_dw512 *k, const int nq) {
  const __m512i w0 = gs_dw512_w(a, 0), w1 = gs_dw512_w(a, 1), w2 = gs_dw512_w(a, 2);
  const int64_t first = (int64_t)ox * 2 - a->left;
  rows r = {(const int8_t *)a->x + first * 4, a->x_row, a->ih, {0}, gs_dw512_pick(0, 2)};
  GS_UNROLL for (int i = 0; i < nq; i++) r.inside[i] = gs_dw512_inside(first + 8 * i, a->iw);
  const __mmask16 keep = gs_first16(a->ow - ox);
  int8_t *y = (int8_t *)a->y + (size_t)ox * 4;
  __m512i t[4], acc[4];
  int64_t iy = -(int64_t)a->top;
  load_row(&r, iy, k, nq, t);
  for (uint32_t oy = 0; oy < a->oh; oy++, iy += 2, y += (size_t)a->ow * 4) {
    GS_UNROLL for (int i = 0; i < nq; i++) acc[i] = _mm512_dpbusd_epi32(k->bias, t[i], w0);
    load_row(&r, iy + 1, k, nq, t);
    GS_UNROLL for (int i = 0; i < nq; i++) acc[i] = _mm512_dpbusd_epi32(acc[i], t[i], w1);
    load_row(&r, iy + 2, k, nq, t);
    GS_UNROLL for (int i = 0; i < nq; i++) acc[i] = _mm512_dpbusd_epi32(acc[i], t[i], w2);
    _mm512_mask_storeu_epi32(y, keep, gs_dw512_out(acc, nq, k));
  }
}

GS_TARGET void gs_s8_dw_3x3s2__avx512vnni(const gs_dw_args *a) { GS_FOR_STRIPS_512(strip) }
