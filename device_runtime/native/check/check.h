/* What the checks of micro-kernels share: counts, random operands, memory between guards. */
#ifndef GS_CHECK_H
#define GS_CHECK_H
#include <stdio.h>

#include "core.h"
#include "test_access.h"

extern int failures;
extern unsigned cases;

#define FAIL(...)                                     \
  do {                                                \
    if (failures++ < 10) {                            \
      printf(__VA_ARGS__);                            \
      printf("\n");                                   \
    }                                                 \
  } while (0)

/* Seeded: the same operands in every run and on every machine. */
uint32_t rnd(void);
uint32_t below(uint32_t n);
float real(void); /* in -1..1 */

/* Memory between guards. at_end: the last byte touches the guard behind, else the first one touches the guard before. On Linux
 * a touched guard is a crash; elsewhere guard_free reports it as a failure of what. */
typedef struct {
  uint8_t *base, *at;
  size_t total, size;
} guarded;

guarded guard_new(size_t size, int at_end, int fill);
guarded guard_copy(const void *from, size_t used, size_t size, int at_end);
void guard_free(guarded *g, const char *what);

/* All cases of one micro-kernel; info as gs_test_kernel_info gives it. */
void run_mm(uint32_t index, const uint32_t info[GS_TEST_INFO]);
void run_loops(uint32_t index);
#endif
