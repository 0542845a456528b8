/* Single micro-kernels by number, and what dispatch picks; contracts in test_access.h. */
#include "test_access.h"

#include "core.h"

enum { FAMILY_MM = 0, FAMILY_DW = 1, FAMILY_BINARY = 2, FAMILY_LUT = 3, FAMILY_LOOPS = 4 };

typedef struct {
  const gs_mm_kernel *mm;
  const gs_dw_kernel *dw;
  const gs_binary_s8_kernel *binary;
  const gs_lut_kernel *lut;
  const gs_loops *loops;
} any_kernel;

static any_kernel find(uint32_t i) {
  any_kernel k = {NULL, NULL, NULL, NULL, NULL};
  for (uint32_t t = 0; t < gs_n_tables; t++) {
    const gs_kernel_table *table = gs_tables[t];
    if (i < table->n_mm) {
      k.mm = &table->mm[i];
      return k;
    }
    i -= table->n_mm;
    if (i < table->n_dw) {
      k.dw = &table->dw[i];
      return k;
    }
    i -= table->n_dw;
    if (i < table->n_binary) {
      k.binary = &table->binary[i];
      return k;
    }
    i -= table->n_binary;
    if (i < table->n_lut) {
      k.lut = &table->lut[i];
      return k;
    }
    i -= table->n_lut;
    if (i < table->n_loops) {
      k.loops = table->loops[i];
      return k;
    }
    i -= table->n_loops;
  }
  return k;
}

uint32_t gs_test_kernel_count(void) {
  uint32_t n = 0;
  for (uint32_t t = 0; t < gs_n_tables; t++)
    n += gs_tables[t]->n_mm + gs_tables[t]->n_dw + gs_tables[t]->n_binary + gs_tables[t]->n_lut +
         gs_tables[t]->n_loops;
  return n;
}

int gs_test_isa_runs(int isa) { return gs_isa_within((gs_isa)isa) == (gs_isa)isa; }

const char *gs_test_kernel_name(uint32_t i) {
  const any_kernel k = find(i);
  return k.mm ? k.mm->name : k.dw ? k.dw->name : k.binary ? k.binary->name : k.lut ? k.lut->name : k.loops ? k.loops->name : NULL;
}

gs_status gs_test_kernel_info(uint32_t i, uint32_t info[GS_TEST_INFO]) {
  const any_kernel k = find(i);
  for (int n = 0; n < GS_TEST_INFO; n++) info[n] = 0;
  if (k.mm) {
    const uint32_t v[GS_TEST_INFO] = {FAMILY_MM, k.mm->isa, k.mm->dtype, k.mm->form, k.mm->rows, k.mm->tile_px,
                           (uint32_t)k.mm->x_offset, (uint32_t)k.mm->widen, k.mm->x_bits};
    for (int n = 0; n < GS_TEST_INFO; n++) info[n] = v[n];
  } else if (k.dw) {
    const uint32_t v[GS_TEST_INFO] = {FAMILY_DW, k.dw->isa, k.dw->dtype, k.dw->kh, k.dw->kw, k.dw->sh, k.dw->sw,
                                      (uint32_t)k.dw->pads, k.dw->packed_bytes};
    for (int n = 0; n < GS_TEST_INFO; n++) info[n] = v[n];
  } else if (k.binary) {
    info[0] = FAMILY_BINARY;
    info[1] = k.binary->isa;
    info[2] = k.binary->op;
  } else if (k.lut) {
    info[0] = FAMILY_LUT;
    info[1] = k.lut->isa;
  } else if (k.loops) {
    info[0] = FAMILY_LOOPS;
    info[1] = k.loops->isa;
  } else {
    return GS_E_ARGUMENT;
  }
  return GS_OK;
}

gs_status gs_test_mm_pack(uint32_t i, const gs_matrix *m, const void *bias, const float *scale, size_t x_stride,
                          gs_packed *out) {
  const any_kernel k = find(i);
  return k.mm ? gs_pack(k.mm, m, bias, scale, x_stride, out) : GS_E_ARGUMENT;
}

void gs_test_packed_free(gs_packed *p) { gs_packed_free(p); }

size_t gs_test_packed_size(void) { return sizeof(gs_packed); }

gs_status gs_test_mm_run(uint32_t i, const gs_mm_args *a, uint32_t tiles, size_t x_step) {
  const any_kernel k = find(i);
  if (!k.mm) return GS_E_ARGUMENT;
  gs_mm_args tile = *a;
  for (uint32_t t = 0; t < tiles; t++) {
    k.mm->run(&tile);
    tile.x = (const uint8_t *)tile.x + x_step;
    tile.y = (uint8_t *)tile.y + (size_t)a->npx * 4;
  }
  return GS_OK;
}

gs_status gs_test_dw_run(uint32_t i, const gs_dw_args *a, void *packed) {
  const any_kernel k = find(i);
  if (!k.dw) return GS_E_ARGUMENT;
  if (k.dw->pack && !a->packed) k.dw->pack(a, packed);
  else k.dw->run(a);
  return GS_OK;
}

gs_status gs_test_binary_run(uint32_t i, const gs_binary_s8_args *a) {
  const any_kernel k = find(i);
  if (!k.binary) return GS_E_ARGUMENT;
  k.binary->run(a);
  return GS_OK;
}

gs_status gs_test_lut_run(uint32_t i, const uint8_t *x, uint8_t *y, size_t n, const uint8_t *table) {
  const any_kernel k = find(i);
  if (!k.lut) return GS_E_ARGUMENT;
  k.lut->run(x, y, n, table);
  return GS_OK;
}

const gs_loops *gs_test_loops(uint32_t i) { return find(i).loops; }

const char *gs_test_pick_mm(int isa, int dtype, int form, int gemv, uint32_t x_bits) {
  const gs_mm_kernel *k = gs_pick_mm((gs_isa)isa, (gs_dtype)dtype, (gs_form)form, gemv, x_bits, 1);
  return k != NULL ? k->name : NULL;
}

const char *gs_test_pick_dw(int isa, int dtype, uint32_t kernel, uint32_t stride, uint32_t dilation) {
  const gs_dw_kernel *k =
      gs_pick_dw((gs_isa)isa, (gs_dtype)dtype, kernel, kernel, stride, stride, dilation, dilation, 0);
  return k != NULL ? k->name : NULL;
}
