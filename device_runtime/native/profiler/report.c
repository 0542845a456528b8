/* The per-operator table and JSON of gossamer-profile. Times are in microseconds over the timed runs. */
#include "report.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct {
  double median, min, p90, mean;
} statistics;

static int by_value(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

/* Of n values `stride` apart. Quantiles interpolate between neighbours, as numpy's default does. */
static double quantile(const uint64_t *sorted, uint32_t n, double q) {
  double at = q * (n - 1);
  uint32_t i = (uint32_t)at;
  double low = (double)sorted[i], high = (double)sorted[i + 1 < n ? i + 1 : i];
  return (low + (high - low) * (at - i)) / 1000.0;
}

static statistics summarise(const uint64_t *ns, uint32_t n, uint32_t stride, uint64_t *sorted) {
  double sum = 0;
  for (uint32_t i = 0; i < n; i++) {
    sorted[i] = ns[(size_t)i * stride];
    sum += (double)sorted[i];
  }
  qsort(sorted, n, sizeof *sorted, by_value);
  return (statistics){quantile(sorted, n, 0.5), (double)sorted[0] / 1000.0, quantile(sorted, n, 0.9), sum / n / 1000.0};
}

static const char *dtype_name(gs_dtype t) {
  static const char *const names[] = {"?", "f32", "s8", "u8", "s32", "s64", "s16", "u32"};
  return t >= GS_F32 && t <= GS_U32 ? names[t] : names[0];
}

static void print_json_string(const char *s) {
  putchar('"');
  for (; *s != 0; s++) {
    unsigned char c = (unsigned char)*s;
    if (c == '"' || c == '\\')
      printf("\\%c", c);
    else if (c < 0x20)
      printf("\\u%04x", c);
    else
      putchar(c);
  }
  putchar('"');
}

static double sparsity(const gs_op_info *i) {
  return i->weight_count != 0 ? 1.0 - (double)i->weight_nonzero / (double)i->weight_count : 0.0;
}

bool report_table(const report *r, const gs_model *model, const gs_session *session) {
  uint64_t *sorted = malloc(r->runs * sizeof *sorted);
  if (sorted == NULL) return false;
  statistics total = summarise(r->total_ns, r->runs, 1, sorted);
  printf("model      %s (%zu bytes)\n", r->model, r->model_bytes);
  printf("core       %s, %s, %u thread%s\n", gs_version(), gs_isa_name(r->isa), r->threads, r->threads == 1 ? "" : "s");
  printf("memory     arena %zu bytes, session %zu bytes\n", gs_model_arena_bytes(model), gs_session_bytes(session));
  printf("load       %.1f us\n", (double)r->load_ns / 1000.0);
  printf("inference  median %.1f us, min %.1f us, p90 %.1f us, mean %.1f us over %u runs after %u warm-up\n\n", total.median,
         total.min, total.p90, total.mean, r->runs, r->warmup);
  printf("%4s %-10s %-12s %-40s %5s %11s %11s %11s %8s %11s %10s  %s\n", "op", "kind", "pattern", "kernel", "dtype",
         "median [us]", "min [us]", "p90 [us]", "share[%]", "sparsity[%]", "MMAC", "node");
  for (uint32_t i = 0; i < r->n_ops; i++) {
    gs_op_info info;
    if (gs_session_op_info(session, i, &info) != GS_OK) continue;
    statistics s = summarise(r->op_ns + i, r->runs, r->n_ops, sorted);
    printf("%4u %-10s %-12s %-40s %5s %11.2f %11.2f %11.2f %8.1f %11.1f %10.3f  %s%s%s\n", i, info.kind, info.pattern,
           info.kernel, dtype_name(info.dtype), s.median, s.min, s.p90, total.median > 0 ? 100.0 * s.median / total.median : 0.0,
           100.0 * sparsity(&info), (double)info.macs / 1e6, info.name, info.source[0] ? " <- " : "", info.source);
  }
  free(sorted);
  return true;
}

static void print_statistics(const statistics *s) {
  printf("\"median_us\": %.3f, \"min_us\": %.3f, \"p90_us\": %.3f, \"mean_us\": %.3f", s->median, s->min, s->p90, s->mean);
}

static void print_each(const char *key, const uint64_t *ns, uint32_t n, uint32_t stride) {
  printf(", \"%s\": [", key);
  for (uint32_t i = 0; i < n; i++) printf("%s%llu", i == 0 ? "" : ",", (unsigned long long)ns[(size_t)i * stride]);
  putchar(']');
}

bool report_json(const report *r, const gs_model *model, const gs_session *session) {
  uint64_t *sorted = malloc(r->runs * sizeof *sorted);
  if (sorted == NULL) return false;
  statistics total = summarise(r->total_ns, r->runs, 1, sorted);
  printf("{\"model\": ");
  print_json_string(r->model);
  printf(", \"model_bytes\": %zu, \"version\": \"%s\", \"isa\": \"%s\", \"threads\": %u,\n \"arena_bytes\": %zu, "
         "\"session_bytes\": %zu, \"load_us\": %.3f, \"runs\": %u, \"warmup\": %u,\n \"inference\": {",
         r->model_bytes, gs_version(), gs_isa_name(r->isa), r->threads, gs_model_arena_bytes(model), gs_session_bytes(session),
         (double)r->load_ns / 1000.0, r->runs, r->warmup);
  print_statistics(&total);
  if (r->each) print_each("warmup_ns", r->warmup_ns, r->warmup, 1), print_each("runs_ns", r->total_ns, r->runs, 1);
  printf("},\n \"operators\": [");
  for (uint32_t i = 0; i < r->n_ops; i++) {
    gs_op_info info;
    if (gs_session_op_info(session, i, &info) != GS_OK) continue;
    statistics s = summarise(r->op_ns + i, r->runs, r->n_ops, sorted);
    printf("%s\n  {\"index\": %u, \"name\": ", i != 0 ? "," : "", i);
    print_json_string(info.name);
    printf(", \"source\": ");
    print_json_string(info.source);
    printf(", \"kind\": \"%s\", \"pattern\": \"%s\", \"kernel\": \"%s\", \"dtype\": \"%s\", ", info.kind, info.pattern,
           info.kernel, dtype_name(info.dtype));
    print_statistics(&s);
    if (r->each) print_each("runs_ns", r->op_ns + i, r->runs, r->n_ops);
    printf(", \"macs\": %llu, \"macs_executed\": %llu, \"weight_count\": %llu, \"weight_nonzero\": %llu, \"bytes_in\": %llu, "
           "\"bytes_out\": %llu, \"bytes_weights\": %llu, \"fused\": %s}",
           (unsigned long long)info.macs, (unsigned long long)info.macs_executed, (unsigned long long)info.weight_count,
           (unsigned long long)info.weight_nonzero, (unsigned long long)info.bytes_in, (unsigned long long)info.bytes_out,
           (unsigned long long)info.bytes_weights, info.fused ? "true" : "false");
  }
  printf("\n ]}\n");
  free(sorted);
  return true;
}
