/* What gossamer-profile prints. */
#ifndef GS_PROFILER_REPORT_H
#define GS_PROFILER_REPORT_H
#include <stdbool.h>

#include "gossamer.h"

typedef struct {
  const char *model;
  size_t model_bytes;
  uint64_t load_ns;
  uint32_t runs, warmup, threads, n_ops;
  gs_isa isa;
  bool each; /* JSON with every run */
  const uint64_t *op_ns;     /* [runs][n_ops] */
  const uint64_t *warmup_ns; /* [warmup] */
  const uint64_t *total_ns;  /* [runs] */
} report;

/* Both write to standard output and return false when memory runs out. */
bool report_table(const report *r, const gs_model *model, const gs_session *session);
bool report_json(const report *r, const gs_model *model, const gs_session *session);
#endif
