/* The memory and string functions that the core and compilers call, for the WASM build, which links no C library. */
#if defined(__wasm__)
#include <stddef.h>
#include <stdint.h>

/* Volatile words keep the compiler from turning these loops into calls of themselves. */
void *memcpy(void *restrict to, const void *restrict from, size_t n) {
  uint8_t *t = to;
  const uint8_t *f = from;
  typedef uint64_t __attribute__((may_alias, aligned(1))) word;
  for (; n >= 8; n -= 8, t += 8, f += 8) {
    *(word *)t = *(const word *)f;
    __asm__ volatile("");
  }
  for (; n; n--, t++, f++) {
    *t = *f;
    __asm__ volatile("");
  }
  return to;
}

void *memmove(void *to, const void *from, size_t n) {
  uint8_t *t = to;
  const uint8_t *f = from;
  if ((uintptr_t)t - (uintptr_t)f >= n) return memcpy(to, from, n);
  while (n--) {
    t[n] = f[n];
    __asm__ volatile("");
  }
  return to;
}

void *memset(void *to, int value, size_t n) {
  uint8_t *t = to;
  for (; n; n--, t++) {
    *t = (uint8_t)value;
    __asm__ volatile("");
  }
  return to;
}

int memcmp(const void *a, const void *b, size_t n) {
  const uint8_t *x = a, *y = b;
  for (; n; n--, x++, y++)
    if (*x != *y) return *x < *y ? -1 : 1;
  return 0;
}

size_t strlen(const char *s) {
  size_t n = 0;
  while (s[n]) n++;
  return n;
}

int strcmp(const char *a, const char *b) {
  while (*a && *a == *b) a++, b++;
  return (uint8_t)*a - (uint8_t)*b;
}
#else
typedef int gs_no_empty_translation_unit;
#endif
