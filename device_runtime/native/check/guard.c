/* Random operands and memory between guards. */
#include <stdlib.h>
#include <string.h>
#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

#include "check.h"

int failures;
unsigned cases;

static uint64_t state = 88172645463325252ull;
uint32_t rnd(void) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (uint32_t)(state >> 16);
}
uint32_t below(uint32_t n) { return rnd() % n; }
float real(void) { return (float)((int32_t)rnd() / 2147483648.0); }

#define GUARD_BYTES 256u
guarded guard_new(size_t size, int at_end, int fill) {
  guarded g = {NULL, NULL, 0, size};
#if defined(__linux__)
  size_t page = (size_t)sysconf(_SC_PAGESIZE), body = (size + page - 1) / page * page;
  if (body == 0) body = page;
  g.total = body + 2 * page;
  g.base = mmap(NULL, g.total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (g.base == MAP_FAILED) exit(2);
  if (mprotect(g.base, page, PROT_NONE) || mprotect(g.base + page + body, page, PROT_NONE)) exit(2);
  g.at = at_end ? g.base + page + body - size : g.base + page;
  memset(g.base + page, fill, body);
#else
  (void)at_end;
  g.total = size + 2 * GUARD_BYTES;
  g.base = malloc(g.total);
  if (g.base == NULL) exit(2);
  memset(g.base, 0x5a, g.total);
  g.at = g.base + GUARD_BYTES;
  memset(g.at, fill, size);
#endif
  return g;
}
guarded guard_copy(const void *from, size_t used, size_t size, int at_end) {
  guarded g = guard_new(size, at_end, 0);
  if (used) memcpy(g.at, from, used);
  return g;
}
void guard_free(guarded *g, const char *what) {
#if defined(__linux__)
  (void)what;
  munmap(g->base, g->total);
#else
  for (size_t i = 0; i < GUARD_BYTES; i++)
    if (g->base[i] != 0x5a || g->at[g->size + i] != 0x5a) {
      FAIL("%s: written outside", what);
      break;
    }
  free(g->base);
#endif
}
