/* libFuzzer target: any bytes at all are opened, and if they open, run. Nothing may crash, leak, overflow or read
 * uninitialised or foreign memory; ASan and UBSan watch.
 *
 * The container's bookkeeping (file size, section offsets) is repaired before every run, so that mutations reach the plan
 * and the operators instead of ending at the first check; every 16th input is used as it is. */
#include <stdlib.h>
#include <string.h>

#include "gossamer.h"
#include "plan_format.h"

/* Bigger models are loaded, but not run: they would make runs slow without reaching other code. */
#define MAX_ARENA (1u << 20)
#define MAX_OPS 64u
#define MAX_MACS (1u << 24)

static int no_backend(void *user, uint32_t partition, const gs_extern_tensor *inputs, uint32_t n_inputs,
                      const gs_extern_tensor *outputs, uint32_t n_outputs) {
  (void)user;
  (void)partition;
  unsigned sum = 0;
  for (uint32_t i = 0; i < n_inputs; i++) /* every byte the core hands out must be there */
    for (size_t k = 0; k < inputs[i].bytes; k++) sum += ((const uint8_t *)inputs[i].data)[k];
  for (uint32_t i = 0; i < n_outputs; i++) memset(outputs[i].data, (int)(sum & 255), outputs[i].bytes);
  return 0;
}

static void repair(uint8_t *bytes, size_t size) {
  gs_file_header h;
  if (size < sizeof h) return;
  memcpy(&h, bytes, sizeof h);
  memcpy(h.magic, GS_MAGIC, 8);
  h.version = GS_FORMAT_VERSION;
  h.file_size = size;
  memset(h.reserved, 0, sizeof h.reserved);
  memcpy(bytes, &h, sizeof h);
}

static void run_session(const gs_model *model, const gs_options *options, const uint8_t *fill, size_t fill_size) {
  gs_error error;
  gs_session *session = NULL;
  if (gs_session_open(model, options, &session, &error) != GS_OK) return;
  uint64_t macs = 0;
  for (uint32_t i = 0; i < gs_model_op_count(model); i++) {
    gs_op_info info;
    if (gs_session_op_info(session, i, &info) == GS_OK) macs += info.macs / 16 > MAX_MACS ? MAX_MACS : info.macs;
  }
  uint32_t n_in = gs_model_input_count(model), n_out = gs_model_output_count(model);
  void **buffers = calloc((size_t)n_in + n_out, sizeof *buffers);
  for (uint32_t i = 0; i < n_in + n_out; i++) {
    gs_io io;
    gs_status status = i < n_in ? gs_model_input(model, i, &io) : gs_model_output(model, i - n_in, &io);
    if (status != GS_OK) abort();
    buffers[i] = malloc(io.bytes); /* exact, so that ASan sees one byte too many */
    if (i < n_in)
      for (size_t k = 0; k < io.bytes; k++) ((uint8_t *)buffers[i])[k] = fill[k % fill_size];
  }
  if (macs <= MAX_MACS) {
    gs_session_run(session, (const void *const *)buffers, buffers + n_in, &error);
    gs_session_run(session, (const void *const *)buffers, buffers + n_in, &error);
  }
  for (uint32_t i = 0; i < n_in + n_out; i++) free(buffers[i]);
  free(buffers);
  gs_session_close(session);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  if (size == 0) return 0;
  void *block = NULL;
  if (posix_memalign(&block, 64, size) != 0) return 0; /* exactly size bytes, so that ASan sees one too many */
  uint8_t *bytes = block;
  memcpy(bytes, data, size);
  if (data[size - 1] % 16 != 0) repair(bytes, size);
  gs_error error;
  gs_model *model = NULL;
  static const uint8_t key[1][32] = {{0}};
  (void)gs_bundle_verify(bytes, size, key, 1, &error);
  if (gs_model_open(bytes, size, &model, &error) == GS_OK) {
    if (gs_model_arena_bytes(model) <= MAX_ARENA && gs_model_op_count(model) <= MAX_OPS) {
#if defined(__x86_64__)
      static const gs_isa caps[] = {GS_ISA_SCALAR, GS_ISA_AVX2, GS_ISA_BEST};
#else
      static const gs_isa caps[] = {GS_ISA_SCALAR, GS_ISA_NEON, GS_ISA_BEST};
#endif
      for (size_t i = 0; i < 3; i++) {
        gs_options options = {.threads = 1, .isa_cap = caps[i], .extern_fn = no_backend};
        run_session(model, &options, data, size);
      }
    }
    gs_model_close(model);
  }
  free(bytes);
  return 0;
}
