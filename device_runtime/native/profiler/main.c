/* gossamer-profile: one static program that loads a bundle, runs it on raw files or a seeded pattern, and says how long
 * every operator took. Made for `adb push` and for qemu; needs nothing on the device. */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "gossamer.h"
#include "report.h"

#define MAX_FILES 256

static const char usage[] =
    "usage: gossamer-profile MODEL.goss [options]\n"
    "\n"
    "Loads a bundle, runs it and prints the time of every operator.\n"
    "\n"
    "  --input FILE     raw values of the next graph input, in the model's order (repeat for several). Without any,\n"
    "                   inputs hold a seeded pattern: xorshift32 from --seed; floats in [-1, 1), 8- and 16-bit\n"
    "                   integers over their whole range, wider integers 0..15\n"
    "  --output FILE    where to write the next graph output after the last run (repeat for several)\n"
    "  --runs N         timed runs, 1..1000000 (default 50)\n"
    "  --warmup N       runs before them, 0..1000000 (default 5)\n"
    "  --threads N      threads, 1..64 (default 1)\n"
    "  --isa NAME       use no kernel above this instruction set: scalar, avx2, avxvnni, avx512vnni, neon, neondot\n"
    "                   (default best)\n"
    "  --seed N         seed of the pattern, 1..4294967295 (default 1)\n"
    "  --verify KEY     refuse the bundle unless this Ed25519 public key (64 hexadecimal digits) signed it\n"
    "  --json           print JSON instead of a table\n"
    "  --each           with --json: every run's times too, whole and by operator, in nanoseconds\n"
    "  --help           this text\n"
    "\n"
    "Raw files hold a tensor's values alone: row-major in the shape the model shows, no header, no padding,\n"
    "little-endian; f32 as IEEE binary32, s8/u8 one byte, s16 two, s32/u32 four, s64 eight bytes a value. A file's\n"
    "length must be exact.\n"
    "\n"
    "This program has no external backends: a bundle with partitions for ONNX Runtime, LiteRT or TVM is refused.\n"
    "Exit codes: 0 done, 1 the model or a file cannot be used, 2 wrong command line.\n"
    "\n"
    "example: gossamer-profile model.goss --input cat.raw --output scores.raw --runs 100\n";

typedef struct {
  const char *model, *inputs[MAX_FILES], *outputs[MAX_FILES];
  uint32_t n_inputs, n_outputs, runs, warmup, threads, seed;
  int isa;
  bool json, each, verify;
  uint8_t key[32];
} arguments;

static int fail_usage(const char *what, const char *value) {
  fprintf(stderr, "error: %s%s%s (see --help)\n", what, value[0] ? ": " : "", value);
  return 2;
}

static bool parse_number(const char *text, uint32_t lo, uint32_t hi, uint32_t *out) {
  char *end;
  errno = 0;
  unsigned long long v = strtoull(text, &end, 10);
  if (text[0] < '0' || text[0] > '9' || *end != 0 || errno != 0 || v < lo || v > hi) return false;
  *out = (uint32_t)v;
  return true;
}

static bool parse_key(const char *text, uint8_t key[32]) {
  static const char digits[] = "0123456789abcdef";
  if (strlen(text) != 64) return false;
  for (int i = 0; i < 64; i++) {
    char c = text[i] >= 'A' && text[i] <= 'F' ? (char)(text[i] + 32) : text[i];
    const char *at = strchr(digits, c);
    if (at == NULL) return false;
    key[i / 2] = (uint8_t)(key[i / 2] << 4 | (at - digits));
  }
  return true;
}

/* 0: go on; else the exit code plus one. */
static int parse(int argc, char **argv, arguments *a) {
  *a = (arguments){.runs = 50, .warmup = 5, .threads = 1, .seed = 1, .isa = GS_ISA_BEST};
  for (int i = 1; i < argc; i++) {
    const char *name = argv[i];
    if (strcmp(name, "--help") == 0) return fputs(usage, stdout), 1;
    bool *flag = strcmp(name, "--json") == 0 ? &a->json : strcmp(name, "--each") == 0 ? &a->each : NULL;
    if (flag != NULL) {
      *flag = true;
      continue;
    }
    if (name[0] != '-') {
      if (a->model != NULL) return 1 + fail_usage("more than one model", name);
      a->model = name;
      continue;
    }
    static const char *const valued[] = {"--input", "--output", "--runs", "--warmup", "--threads", "--isa", "--seed", "--verify"};
    int which = -1;
    for (int k = 0; k < 8; k++)
      if (strcmp(name, valued[k]) == 0) which = k;
    if (which < 0) return 1 + fail_usage("unknown option", name);
    if (++i == argc) return 1 + fail_usage("a value is missing after", name);
    const char *value = argv[i];
    bool ok = true;
    if (which == 0) (ok = a->n_inputs < MAX_FILES) ? (void)(a->inputs[a->n_inputs++] = value) : (void)0;
    if (which == 1) (ok = a->n_outputs < MAX_FILES) ? (void)(a->outputs[a->n_outputs++] = value) : (void)0;
    if (which == 2) ok = parse_number(value, 1, 1000000, &a->runs);
    if (which == 3) ok = parse_number(value, 0, 1000000, &a->warmup);
    if (which == 4) ok = parse_number(value, 1, 64, &a->threads);
    if (which == 5) ok = (a->isa = gs_isa_parse(value)) >= 0;
    if (which == 6) ok = parse_number(value, 1, UINT32_MAX, &a->seed);
    if (which == 7) ok = a->verify = parse_key(value, a->key);
    if (!ok) {
      fprintf(stderr, "error: %s does not take '%s' (see --help)\n", name, value);
      return 3;
    }
  }
  if (a->model == NULL) return 1 + fail_usage("no model given", "");
  if (a->each && !a->json) return 1 + fail_usage("--each needs --json", "");
  return 0;
}

static const void *map_file(const char *path, size_t *size) {
  int fd = open(path, O_RDONLY);
  struct stat info;
  if (fd < 0 || fstat(fd, &info) != 0) {
    fprintf(stderr, "error: %s: %s\n", path, strerror(errno));
    if (fd >= 0) close(fd);
    return NULL;
  }
  *size = (size_t)info.st_size;
  if (!S_ISREG(info.st_mode) || info.st_size == 0) {
    fprintf(stderr, "error: %s is %s\n", path, S_ISREG(info.st_mode) ? "empty" : "not a file");
    close(fd);
    return NULL;
  }
  void *p = mmap(NULL, *size, PROT_READ, MAP_PRIVATE, fd, 0);
  close(fd);
  if (p == MAP_FAILED) {
    fprintf(stderr, "error: %s: %s\n", path, strerror(errno));
    return NULL;
  }
  return p;
}

static void fill_pattern(const gs_io *io, uint32_t *state, uint8_t *out) {
  size_t item = io->dtype == GS_S8 || io->dtype == GS_U8 ? 1 : io->dtype == GS_S16 ? 2 : io->dtype == GS_S64 ? 8 : 4;
  for (size_t i = 0; i < io->bytes; i += item) {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    if (io->dtype == GS_F32) {
      float v = (float)(*state >> 8) / 8388608.0f - 1.0f;
      memcpy(out + i, &v, 4);
    } else {
      uint64_t v = item <= 2 ? *state >> 16 : *state >> 28;
      memcpy(out + i, &v, item);
    }
  }
}

static bool read_input(const char *path, const gs_io *io, void *out) {
  size_t size;
  const void *p = map_file(path, &size);
  if (p == NULL) return false;
  bool ok = size == io->bytes;
  if (ok)
    memcpy(out, p, size);
  else
    fprintf(stderr, "error: %s has %zu bytes; input '%s' needs %zu\n", path, size, io->name, io->bytes);
  munmap((void *)p, size);
  return ok;
}

/* Written beside its place and moved there, so that a full disk leaves no half output. */
static bool write_output(const char *path, const gs_io *io, const void *data) {
  char temporary[4096];
  if (snprintf(temporary, sizeof temporary, "%s.part", path) >= (int)sizeof temporary) {
    fprintf(stderr, "error: %s: the path is too long\n", path);
    return false;
  }
  FILE *f = fopen(temporary, "wb");
  bool ok = f != NULL && fwrite(data, 1, io->bytes, f) == io->bytes;
  if (f != NULL && fclose(f) != 0) ok = false;
  if (ok && rename(temporary, path) != 0) ok = false;
  if (!ok) {
    fprintf(stderr, "error: %s: %s\n", path, strerror(errno));
    unlink(temporary);
  }
  return ok;
}

typedef struct {
  void *buffers[2 * MAX_FILES];
  uint64_t *op_ns, *total_ns; /* [runs and a row for warm-ups][ops], [warm-ups and runs] */
} memory;

static int finish(memory *m, gs_session *session, gs_model *model, int code) {
  for (int i = 0; i < 2 * MAX_FILES; i++) free(m->buffers[i]);
  free(m->op_ns);
  free(m->total_ns);
  gs_session_close(session);
  gs_model_close(model);
  return code;
}

static uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

int main(int argc, char **argv) {
  arguments a;
  int code = parse(argc, argv, &a);
  if (code != 0) return code - 1;
  size_t size;
  const void *bytes = map_file(a.model, &size);
  if (bytes == NULL) return 1;
  gs_error error;
  gs_model *model = NULL;
  gs_session *session = NULL;
  memory m = {0};
  const gs_options options = {.threads = a.threads, .isa_cap = (gs_isa)a.isa};
  uint64_t start = now_ns();
  gs_status status = a.verify ? gs_bundle_verify(bytes, size, (const uint8_t(*)[32]) & a.key, 1, &error) : GS_OK;
  if (status == GS_OK) status = gs_model_open(bytes, size, &model, &error);
  if (status == GS_OK && gs_model_extern_count(model) != 0) {
    fprintf(stderr, "error: %s: it has %u external partitions, and this program has no external backends\n", a.model,
            gs_model_extern_count(model));
    return finish(&m, session, model, 1);
  }
  if (status == GS_OK) status = gs_session_open(model, &options, &session, &error);
  if (status != GS_OK) {
    fprintf(stderr, "error: %s: %s\n", a.model, error.message);
    return finish(&m, session, model, 1);
  }
  uint64_t load_ns = now_ns() - start;

  uint32_t n_in = gs_model_input_count(model), n_out = gs_model_output_count(model), n_ops = gs_model_op_count(model);
  if ((a.n_inputs != 0 && a.n_inputs != n_in) || a.n_outputs > n_out) {
    fprintf(stderr, "error: the model has %u inputs and %u outputs; %u --input and %u --output files were given\n", n_in, n_out,
            a.n_inputs, a.n_outputs);
    return finish(&m, session, model, 2);
  }
  uint32_t state = a.seed;
  for (uint32_t i = 0; i < n_in + n_out; i++) {
    gs_io io;
    (void)(i < n_in ? gs_model_input(model, i, &io) : gs_model_output(model, i - n_in, &io));
    m.buffers[i] = calloc(1, io.bytes);
    if (m.buffers[i] == NULL) return fputs("error: out of memory\n", stderr), finish(&m, session, model, 1);
    if (i < n_in && a.n_inputs == 0) fill_pattern(&io, &state, m.buffers[i]);
    if (i < n_in && a.n_inputs != 0 && !read_input(a.inputs[i], &io, m.buffers[i])) return finish(&m, session, model, 1);
  }
  m.op_ns = calloc((size_t)a.runs + 1, ((size_t)n_ops + 1) * sizeof *m.op_ns); /* calloc refuses products too large */
  m.total_ns = calloc((size_t)a.warmup + a.runs, sizeof *m.total_ns);
  if (m.op_ns == NULL || m.total_ns == NULL) return fputs("error: out of memory\n", stderr), finish(&m, session, model, 1);

  const void *const *inputs = (const void *const *)m.buffers;
  void *const *outputs = m.buffers + n_in;
  for (uint32_t r = 0; r < a.warmup + a.runs && status == GS_OK; r++) {
    uint64_t *row = m.op_ns + (size_t)(r < a.warmup ? a.runs : r - a.warmup) * n_ops, before = now_ns();
    status = gs_session_run_timed(session, inputs, outputs, row, &error);
    m.total_ns[r] = now_ns() - before;
  }
  if (status != GS_OK) {
    fprintf(stderr, "error: %s: %s\n", a.model, error.message);
    return finish(&m, session, model, 1);
  }
  for (uint32_t i = 0; i < a.n_outputs; i++) {
    gs_io io;
    (void)gs_model_output(model, i, &io);
    if (!write_output(a.outputs[i], &io, outputs[i])) return finish(&m, session, model, 1);
  }
  report r = {.model = a.model,
              .model_bytes = size,
              .load_ns = load_ns,
              .runs = a.runs,
              .warmup = a.warmup,
              .each = a.each,
              .threads = a.threads,
              .isa = (gs_isa)a.isa > gs_detect_isa() ? gs_detect_isa() : (gs_isa)a.isa,
              .op_ns = m.op_ns,
              .warmup_ns = m.total_ns,
              .total_ns = m.total_ns + a.warmup,
              .n_ops = n_ops};
  bool reported = a.json ? report_json(&r, model, session) : report_table(&r, model, session);
  if (!reported) fputs("error: out of memory\n", stderr);
  if (fflush(stdout) != 0) {
    fprintf(stderr, "error: standard output: %s\n", strerror(errno));
    reported = false;
  }
  return finish(&m, session, model, reported ? 0 : 1);
}
