/* Sparse int8 in 4x1 blocks: four single columns are interleaved on the fly into a group, two groups a step. */
#include "neon_4x1.h"
#include "neon_mm.h"

void gs_s8_mm_4x1_4x16__neon(const gs_mm_args *a) {
  const gs_packed *w = a->w;
  const gs_rqn q = gs_rqn_make(&a->q);
  for (uint32_t p = 0; p < a->npx; p += 4 * GS_VECTORS)
    for (uint32_t b = a->block0; b < a->block1; b++) {
      const int8_t *x = (const int8_t *)a->x + (size_t)p * 4;
      const uint32_t last = w->start[b + 1];
      uint32_t e = w->start[b];
      const int8_t *val = (const int8_t *)w->val + (size_t)e * 4;
      GS_MLAL_START(acc, (const int32_t *)w->bias + (size_t)b * 4);
      for (; e + 8 <= last; e += 8, val += 32) {
        const gs_columnsn c0 = gs_columnsn_of(x, w->off + e), c1 = gs_columnsn_of(x, w->off + e + 4);
        int8x16_t p0[GS_VECTORS], p1[GS_VECTORS];
        GS_UNROLL for (int v = 0; v < GS_VECTORS; v++) {
          p0[v] = gs_gathern(&c0, v);
          p1[v] = gs_gathern(&c1, v);
        }
        gs_rows_pairn(acc, p0, p1, val);
      }
      if (e < last) {
        const gs_columnsn c0 = gs_columnsn_of(x, w->off + e);
        int8x16_t p0[GS_VECTORS];
        GS_UNROLL for (int v = 0; v < GS_VECTORS; v++) p0[v] = gs_gathern(&c0, v);
        gs_rows_lastn(acc, p0, val);
      }
      gs_store_quadsn(a, b, p, acc, &q);
    }
}
