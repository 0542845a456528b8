/* The only allocator of the core: 64-byte aligned, zeroed, and able to fail on request so that tests can prove that
 * running out of memory leaves nothing half made. */
#include <stdatomic.h>
#include <stdlib.h>

#include "core.h"
#include "test_access.h"

/* Allocations left before every further one fails; negative: never. */
static atomic_long allocations_left = -1;

void gs_test_fail_alloc_after(long k) { atomic_store(&allocations_left, k); }

static bool must_fail(void) {
  long left = atomic_load(&allocations_left);
  if (left < 0) return false;
  if (left == 0) return true;
  atomic_store(&allocations_left, left - 1);
  return false;
}

void *gs_alloc(size_t bytes) {
  uint64_t total;
  if (!gs_add_size(bytes, GS_ALIGN + sizeof(void *), &total) || total > SIZE_MAX || must_fail()) return NULL;
  /* calloc: large blocks come from the system already zero and are not touched until used. */
  void *raw = calloc(1, (size_t)total);
  if (raw == NULL) return NULL;
  uintptr_t aligned = ((uintptr_t)raw + sizeof(void *) + GS_ALIGN - 1) & ~(uintptr_t)(GS_ALIGN - 1);
  ((void **)aligned)[-1] = raw;
  return (void *)aligned;
}

void gs_free(void *p) {
  if (p != NULL) free(((void **)p)[-1]);
}
