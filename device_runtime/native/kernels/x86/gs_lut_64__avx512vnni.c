/* A table of 256 bytes looked up 64 elements at a time where the machine has VBMI, else one by one. */
#include <stdatomic.h>

#include "avx512.h"

/* 1: no, 2: yes; 0: not asked yet. CPUID is slow in virtual machines, hence asked once. */
static int has_vbmi(void) {
  static atomic_int known;
  int v = atomic_load_explicit(&known, memory_order_relaxed);
  if (v == 0) {
    uint32_t a = 7, b, c = 0, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    v = (c >> 1 & 1u) ? 2 : 1;
    atomic_store_explicit(&known, v, memory_order_relaxed);
  }
  return v == 2;
}

__attribute__((target("avx512f,avx512bw,avx512vl,avx512vbmi"))) static void wide(const uint8_t *x, uint8_t *y, size_t n,
                                                                                 const uint8_t table[256]) {
  const __m512i t0 = _mm512_loadu_si512(table), t1 = _mm512_loadu_si512(table + 64);
  const __m512i t2 = _mm512_loadu_si512(table + 128), t3 = _mm512_loadu_si512(table + 192);
  for (size_t i = 0; i < n; i += 64) {
    const __mmask64 keep = n - i >= 64 ? ~0ull : (1ull << (n - i)) - 1;
    __m512i v = _mm512_maskz_loadu_epi8(keep, x + i);
    __m512i low = _mm512_permutex2var_epi8(t0, v, t1), high = _mm512_permutex2var_epi8(t2, v, t3);
    _mm512_mask_storeu_epi8(y + i, keep, _mm512_mask_blend_epi8(_mm512_movepi8_mask(v), low, high));
  }
}

void gs_lut_64__avx512vnni(const uint8_t *x, uint8_t *y, size_t n, const uint8_t table[256]) {
  if (has_vbmi()) {
    wide(x, y, n, table);
    return;
  }
  for (size_t i = 0; i < n; i++) y[i] = table[x[i]];
}
