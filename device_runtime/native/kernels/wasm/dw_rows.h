/* Input rows of a depthwise plane, padded into a ring on the stack as they are needed: every row is brought once per strip of
 * columns, and what it is turned into there serves all output rows that read it. */
#ifndef GS_WASM_DW_ROWS_H
#define GS_WASM_DW_ROWS_H
#include "wasm.h"

#define GS_STRIP 128u                     /* output columns of a strip */
#define GS_STAGED (2 * GS_STRIP + 16)     /* words of a staged row: windows of up to 5, stride of up to 2, whole vectors read */

/* Words [first, first + n) of input row iy, each xored with flip, then zeros for a vector more. */
GS_INLINE void gs_stage_row(const gs_dw_args *a, int64_t iy, int64_t first, uint32_t n, uint32_t flip, uint32_t *to) {
  const v128_t flips = wasm_i32x4_splat((int32_t)flip), pads = wasm_i32x4_splat((int32_t)(a->pad ^ flip));
  uint32_t left = n, end = n; /* [left, end) lies in the plane */
  if (iy >= 0 && iy < a->ih && first < a->iw && first + n > 0) {
    left = first < 0 ? (uint32_t)-first : 0;
    end = first + n > a->iw ? (uint32_t)(a->iw - first) : n;
  }
  for (uint32_t i = 0; i < left; i += 4) wasm_v128_store(to + i, pads); /* what is too much is overwritten */
  if (left < end) {
    const uint32_t *from = (const uint32_t *)(const void *)((const char *)a->x + iy * (int64_t)a->x_row) + first;
    uint32_t i = left;
    for (; i + 4 <= end; i += 4) wasm_v128_store(to + i, wasm_v128_xor(wasm_v128_load(from + i), flips));
    for (; i < end; i++) to[i] = from[i] ^ flip;
    for (; i < n; i++) to[i] = a->pad ^ flip;
  }
  for (uint32_t i = 0; i < 8; i++) to[n + i] = 0;
}
#endif
