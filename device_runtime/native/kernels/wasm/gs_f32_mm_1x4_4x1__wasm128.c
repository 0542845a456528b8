/* Unstructured sparse f32 times one vector: four entries of a row a step. */
#include "f32_mm.h"

void gs_f32_mm_1x4_4x1__wasm128(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  const char *x = a->x;
  const float *val = w->val;
  const uint32_t end = a->block1 * 4 < w->rows ? a->block1 * 4 : w->rows;
  for (uint32_t row = a->block0 * 4; row < end; row++) {
    const uint32_t last = w->start[row + 1];
    uint32_t e = w->start[row];
    float sum = ((const float *)w->bias)[row];
    v128_t acc = wasm_f32x4_const_splat(0);
    for (; e + 4 <= last; e += 4) {
      const uint32_t *off = w->off + e;
      const v128_t xv = wasm_f32x4_make(gs_load_f32(x + off[0]), gs_load_f32(x + off[1]), gs_load_f32(x + off[2]),
                                        gs_load_f32(x + off[3]));
      acc = GS_MADD(xv, wasm_v128_load(val + e), acc);
    }
    for (; e < last; e++) sum += gs_load_f32(x + w->off[e]) * val[e];
    sum += (wasm_f32x4_extract_lane(acc, 0) + wasm_f32x4_extract_lane(acc, 1)) +
           (wasm_f32x4_extract_lane(acc, 2) + wasm_f32x4_extract_lane(acc, 3));
    sum = sum > a->lo ? sum : a->lo;
    ((float *)a->y)[row] = sum < a->hi ? sum : a->hi;
  }
}
