/* Pad and Slice are one thing: every output index of a dimension reads one input index, or the constant (-1). */
#ifndef GS_OPS_REMAP_H
#define GS_OPS_REMAP_H
#include "common.h"

typedef struct {
  int32_t *map[GS_MAX_RANK];     /* per dimension, one source index or -1 per output index */
  uint32_t left, mid;            /* of the last dimension when it is constant, one contiguous run, constant */
  bool run;
  bool grouped;                  /* S8 CB: groups of four channels move whole */
  uint64_t fill;                 /* the constant's bytes, repeated over 8 */
} gs_remap;

/* Allocates the maps of node->op's output, to be filled by the operator. */
gs_status gs_remap_open(gs_node *node, gs_remap **remap, gs_error *error);
/* Once the maps are filled: finds what can move in runs. */
void gs_remap_finish(const gs_node *node, gs_remap *r);
gs_status gs_remap_run(gs_session *s, gs_node *node, gs_error *error);
void gs_remap_release(gs_node *node);
#endif
