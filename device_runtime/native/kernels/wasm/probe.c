/* What relaxed SIMD does on this engine, found by running it: the standard leaves the second operand of the int8 dot product
 * free above 127, and the baseline compiler of V8 11.3 (Node 20) gets the instruction wrong once registers run short. Every
 * int8 kernel that uses it is held against the scalar one, in the tier that the first session would run. */
#if defined(__wasm_relaxed_simd__)
#include <string.h>
#include <wasm_simd128.h>

#include "../../src/core.h"
#include "probe.h"

enum { ROWS = 8, K = 32, PIXELS = 48, GROUPS = K / 4 };

static uint32_t next(uint32_t *state) {
  *state ^= *state << 13;
  *state ^= *state >> 17;
  *state ^= *state << 5;
  return *state;
}

/* Whether the second operand may be any unsigned byte: sums of products of extremes come out whole. */
static bool takes_bytes(void) {
  static const int8_t weights[4] = {127, -127, 1, -1};
  static const uint8_t values[4] = {255, 254, 128, 127};
  for (uint32_t w = 0; w < 4; w++)
    for (uint32_t v = 0; v < 4; v++) {
      volatile int8_t weight = weights[w]; /* not folded by the compiler, which knows no engine */
      volatile uint8_t value = values[v];
      const v128_t sum = wasm_i32x4_relaxed_dot_i8x16_i7x16_add(wasm_i8x16_splat(weight), wasm_u8x16_splat(value), wasm_i32x4_const_splat(5));
      const v128_t want = wasm_i32x4_splat(4 * weights[w] * values[v] + 5);
      if (!wasm_i32x4_all_true(wasm_i32x4_eq(sum, want))) return false;
    }
  return true;
}

/* One product of a full matrix in the kernel's form by two kernels, scalar and not; x in the range that both take. */
typedef struct {
  int8_t values[ROWS * K], x[GROUPS * PIXELS * 4], y[2][ROWS * PIXELS];
  uint32_t start[ROWS + 1], col[ROWS * K];
  int32_t bias[ROWS];
  float scale[ROWS];
} product;

static gs_status multiply(product *p, const gs_mm_kernel *k, int8_t *y) {
  const bool dense = k->form == GS_FORM_DENSE;
  const uint32_t br = k->form == GS_FORM_1X4 ? 1 : 4, bc = k->form == GS_FORM_4X1 ? 1 : 4;
  const gs_matrix m = {GS_S8, ROWS, K, dense ? 0 : br, dense ? 0 : bc, dense ? NULL : p->start, dense ? NULL : p->col, p->values};
  for (uint32_t i = 0; i <= ROWS / br; i++) p->start[i] = i * (K / bc);
  for (uint32_t i = 0; i < ROWS / br * (K / bc); i++) p->col[i] = i % (K / bc);
  gs_packed packed;
  const gs_status status = gs_pack(k, &m, p->bias, p->scale, PIXELS * 4, &packed);
  if (status != GS_OK) return status;
  gs_mm_args a = {.x = p->x, .x_stride = PIXELS * 4, .y = y, .y_stride = PIXELS * 4, .npx = PIXELS, .block1 = packed.row_blocks, .w = &packed,
                  .q = {packed.scale, 0, -128, 127}};
  for (size_t i = 0; k->x_offset && i < sizeof p->x; i++) p->x[i] = (int8_t)(p->x[i] ^ 0x80);
  k->run(&a);
  gs_packed_free(&packed);
  return GS_OK;
}

static bool product_is_right(product *p, const gs_mm_kernel *k) {
  uint32_t state = 7;
  for (uint32_t i = 0; i < ROWS * K; i++) p->values[i] = (int8_t)((int32_t)(next(&state) >> 8) % 255 - 127);
  for (uint32_t i = 0; i < sizeof p->x; i++) p->x[i] = (int8_t)(next(&state) >> (k->x_bits == 7 ? 25 : 24));
  for (uint32_t i = 0; i < ROWS; i++) {
    p->bias[i] = (int32_t)next(&state) >> 18;
    p->scale[i] = 2e-3f;
  }
  const gs_mm_kernel *plain = gs_pick_mm(GS_ISA_SCALAR, GS_S8, k->form, 0, 8, 0);
  if (multiply(p, plain, p->y[0]) != GS_OK || multiply(p, k, p->y[1]) != GS_OK) return false;
  return memcmp(p->y[0], p->y[1], sizeof p->y[0]) == 0;
}

static gs_isa probe(void) {
  product *p = gs_alloc(sizeof *p);
  if (!p) return GS_ISA_WASM128;
  gs_isa best = takes_bytes() ? GS_ISA_WASMDOT : GS_ISA_WASMRELAXED;
  for (uint32_t i = 0; i < gs_table_wasm.n_mm; i++) {
    const gs_mm_kernel *k = &gs_table_wasm.mm[i];
    if (k->dtype == GS_S8 && k->tile_px > 1 && k->isa > GS_ISA_WASM128 && k->isa <= best && !product_is_right(p, k)) best = k->isa - 1;
  }
  gs_free(p);
  return best;
}

gs_isa gs_wasm_probe(void) {
  static gs_isa found = GS_ISA_SCALAR;
  if (found == GS_ISA_SCALAR) found = probe();
  return found;
}
#endif
