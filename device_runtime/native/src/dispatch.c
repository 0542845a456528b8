/* Which micro-kernel runs: the best one at or below the session's instruction set, of the machine's family or scalar. */
#include "core.h"

const gs_kernel_table *const gs_tables[] = {
#if defined(GS_SCALAR_ONLY)
#elif defined(__x86_64__)
    &gs_table_x86,
#elif defined(__aarch64__) || (defined(__arm__) && defined(__ARM_NEON))
    &gs_table_arm,
#elif defined(__wasm_simd128__)
    &gs_table_wasm,
#endif
    &gs_table_scalar,
};
const uint32_t gs_n_tables = sizeof gs_tables / sizeof *gs_tables;

/* A build holds the kernels of one family only, so that "at or below" is a comparison of numbers; but AVX-VNNI is a branch of
 * its own: what runs AVX-512 VNNI may lack it, and has better. */
static bool allowed(gs_isa kernel, gs_isa cap) { return kernel <= cap && (kernel != GS_ISA_AVXVNNI || cap == GS_ISA_AVXVNNI); }

const gs_mm_kernel *gs_pick_mm(gs_isa isa, gs_dtype dtype, gs_form form, int gemv, uint32_t x_bits, int tame) {
  const gs_mm_kernel *best = NULL;
  for (uint32_t t = 0; t < gs_n_tables; t++)
    for (uint32_t i = 0; i < gs_tables[t]->n_mm; i++) {
      const gs_mm_kernel *k = &gs_tables[t]->mm[i];
      if (k->dtype != dtype || k->form != form || (k->tile_px == 1) != (gemv != 0) || !allowed(k->isa, isa)) continue;
      if (k->x_bits < x_bits || (!tame && k->widen & GS_TAME)) continue;
      if (best == NULL || k->isa > best->isa || (k->isa == best->isa && k->x_bits < best->x_bits)) best = k;
    }
  return best;
}

/* How many of a depthwise kernel's shape fields are fixed, or -1 when it is not for this shape. */
static int dw_fit(const gs_dw_kernel *k, uint32_t kh, uint32_t kw, uint32_t sh, uint32_t sw, uint32_t dh, uint32_t dw) {
  const uint32_t want[4] = {kh, kw, sh, sw}, have[4] = {k->kh, k->kw, k->sh, k->sw};
  int fixed = 0;
  for (int i = 0; i < 4; i++) {
    if (have[i] == 0) continue;
    if (have[i] != want[i]) return -1;
    fixed++;
  }
  if (fixed > 0 && (dh != 1 || dw != 1)) return -1;
  return fixed;
}

const gs_dw_kernel *gs_pick_dw(gs_isa isa, gs_dtype dtype, uint32_t kh, uint32_t kw, uint32_t sh, uint32_t sw,
                               uint32_t dh, uint32_t dw, int wide) {
  const gs_dw_kernel *best = NULL;
  int best_score = -1;
  for (uint32_t t = 0; t < gs_n_tables; t++)
    for (uint32_t i = 0; i < gs_tables[t]->n_dw; i++) {
      const gs_dw_kernel *k = &gs_tables[t]->dw[i];
      if (k->dtype != dtype || !allowed(k->isa, isa) || (wide && k->pack != NULL)) continue;
      int fit = dw_fit(k, kh, kw, sh, sw, dh, dw);
      if (fit < 0) continue;
      /* Any vector kernel beats scalar; among vector kernels one made for the shape beats a general one of a newer
       * instruction set, because its loops are unrolled. */
      int score = (k->isa != GS_ISA_SCALAR ? 10000 : 0) + fit * 1000 + (int)k->isa;
      if (score > best_score) {
        best = k;
        best_score = score;
      }
    }
  return best;
}

const gs_binary_s8_kernel *gs_pick_binary_s8(gs_isa isa, uint32_t op) {
  const gs_binary_s8_kernel *best = NULL;
  for (uint32_t t = 0; t < gs_n_tables; t++)
    for (uint32_t i = 0; i < gs_tables[t]->n_binary; i++) {
      const gs_binary_s8_kernel *k = &gs_tables[t]->binary[i];
      if (k->op == op && allowed(k->isa, isa) && (best == NULL || k->isa > best->isa)) best = k;
    }
  return best;
}

const gs_lut_kernel *gs_pick_lut(gs_isa isa) {
  const gs_lut_kernel *best = NULL;
  for (uint32_t t = 0; t < gs_n_tables; t++)
    for (uint32_t i = 0; i < gs_tables[t]->n_lut; i++) {
      const gs_lut_kernel *k = &gs_tables[t]->lut[i];
      if (allowed(k->isa, isa) && (best == NULL || k->isa > best->isa)) best = k;
    }
  return best;
}

const gs_loops *gs_pick_loops(gs_isa isa) {
  const gs_loops *best = NULL;
  for (uint32_t t = 0; t < gs_n_tables; t++)
    for (uint32_t i = 0; i < gs_tables[t]->n_loops; i++) {
      const gs_loops *k = gs_tables[t]->loops[i];
      if (allowed(k->isa, isa) && (best == NULL || k->isa > best->isa)) best = k;
    }
  return best;
}
