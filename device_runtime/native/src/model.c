/* Questions about an opened model, and small helpers over its tensors. */
#include <string.h>

#include "core.h"

uint32_t gs_model_input_count(const gs_model *model) { return model != NULL ? model->n_inputs : 0; }
uint32_t gs_model_output_count(const gs_model *model) { return model != NULL ? model->n_outputs : 0; }
uint32_t gs_model_op_count(const gs_model *model) { return model != NULL ? model->n_ops : 0; }
size_t gs_model_arena_bytes(const gs_model *model) { return model != NULL ? (size_t)model->arena_size : 0; }
uint32_t gs_model_extern_count(const gs_model *model) { return model != NULL ? model->n_externs : 0; }

static gs_status describe(const gs_tensor *t, gs_io *io) {
  memset(io, 0, sizeof *io);
  io->name = t->name;
  io->dtype = t->dtype;
  io->rank = t->rank;
  memcpy(io->dims, t->dims, sizeof io->dims);
  io->scale = t->scale;
  io->zero_point = t->zp;
  io->bytes = (size_t)t->size;
  return GS_OK;
}

gs_status gs_model_input(const gs_model *model, uint32_t i, gs_io *io) {
  if (model == NULL || io == NULL || i >= model->n_inputs) return GS_E_ARGUMENT;
  return describe(model->inputs[i], io);
}

gs_status gs_model_output(const gs_model *model, uint32_t i, gs_io *io) {
  if (model == NULL || io == NULL || i >= model->n_outputs) return GS_E_ARGUMENT;
  return describe(model->outputs[i], io);
}

const void *gs_model_manifest(const gs_model *model, size_t *size) {
  if (size != NULL) *size = model != NULL ? model->manifest_size : 0;
  return model != NULL ? model->manifest : NULL;
}

const void *gs_model_extern(const gs_model *model, uint32_t i, uint32_t *backend, size_t *size) {
  bool ok = model != NULL && i < model->n_externs;
  if (backend != NULL) *backend = ok ? model->externs[i].backend : 0;
  if (size != NULL) *size = ok ? model->externs[i].size : 0;
  return ok ? model->externs[i].data : NULL;
}

bool gs_same_shape(const gs_tensor *a, const gs_tensor *b) {
  if (a->rank != b->rank) return false;
  for (uint32_t i = 0; i < a->rank; i++)
    if (a->dims[i] != b->dims[i]) return false;
  return true;
}

size_t gs_index(const gs_tensor *t, const uint32_t *coord) {
  if (t->layout == GS_LAYOUT_ROW) {
    size_t index = 0;
    for (uint32_t i = 0; i < t->rank; i++) index = index * t->dims[i] + coord[i];
    return index;
  }
  size_t b = gs_block(t->dtype), groups = gs_ceil_div(t->dims[1], (uint32_t)b);
  size_t pixel = (size_t)coord[2] * t->dims[3] + coord[3];
  return (((size_t)coord[0] * groups + coord[1] / b) * t->pstride + pixel) * b + coord[1] % b;
}

#ifndef GS_VERSION
#error "the build passes GS_VERSION, the version of the distribution"
#endif
uint32_t gs_abi_version(void) { return GS_ABI_VERSION; }
const char *gs_version(void) { return GS_VERSION; }
