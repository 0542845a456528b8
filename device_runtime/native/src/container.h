/* The container of a bundle: header and section table, checked. Used by the loader and by signature verification. */
#ifndef GS_CONTAINER_H
#define GS_CONTAINER_H
#include "core.h"

typedef struct {
  const uint8_t *data;
  uint64_t offset, size;
} gs_span;

typedef struct {
  gs_span plan, weights, manifest, signature;
  gs_span externs[GS_CAP_SECTIONS];
  uint32_t backends[GS_CAP_SECTIONS];
  uint32_t n_externs;
} gs_container;

/* Checks every rule that plan_format.h states for the container. The spans point into bytes. */
gs_status gs_container_read(const void *bytes, size_t size, gs_container *out, gs_error *error);

/* Checks that no operator reads a tensor whose bytes another one has overwritten, that the outputs of an operator do not
 * overlap its inputs or each other, and that no graph input overlaps another. */
gs_status gs_liveness_check(const gs_model *model, gs_error *error);
#endif
