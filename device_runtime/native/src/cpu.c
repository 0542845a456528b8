/* Which instruction sets this machine runs. Asked of the processor itself (CPUID and XGETBV, the kernel's hwcaps):
 * the compiler's __builtin_cpu_supports answers "no" under zig without a word. */
#include <string.h>

#include "core.h"

#if defined(__x86_64__)

static void cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4]) {
  __asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(sub));
}

static uint32_t enabled_state(void) {
  uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low;
}

#define BIT(word, n) (((word) >> (n)) & 1u)

static bool has_avx_vnni(void) {
  uint32_t r[4];
  cpuid(7, 0, r);
  if (r[0] < 1) return false;
  cpuid(7, 1, r);
  return BIT(r[0], 4);
}

static gs_isa detect(void) {
  uint32_t r[4];
  cpuid(0, 0, r);
  if (r[0] < 7) return GS_ISA_SCALAR;
  cpuid(1, 0, r);
  uint32_t c1 = r[2];
  if (!BIT(c1, 27) || !BIT(c1, 28) || !BIT(c1, 12)) return GS_ISA_SCALAR; /* OSXSAVE, AVX, FMA */
  uint32_t state = enabled_state();
  if ((state & 0x6u) != 0x6u) return GS_ISA_SCALAR; /* the system saves XMM and YMM */
  cpuid(7, 0, r);
  uint32_t b7 = r[1], c7 = r[2];
  if (!BIT(b7, 5) || !BIT(b7, 3) || !BIT(b7, 8)) return GS_ISA_SCALAR; /* AVX2, BMI1, BMI2 */
  bool avx512 = BIT(b7, 16) && BIT(b7, 17) && BIT(b7, 30) && BIT(b7, 31); /* F, DQ, BW, VL */
  if (avx512 && BIT(c7, 11) && (state & 0xE0u) == 0xE0u) return GS_ISA_AVX512VNNI; /* VNNI; opmask and ZMM saved */
  return has_avx_vnni() ? GS_ISA_AVXVNNI : GS_ISA_AVX2;
}

/* AVX-VNNI is no part of AVX-512 VNNI: a machine of the latter may lack it. */
static bool runs(gs_isa isa) { return isa != GS_ISA_AVXVNNI || has_avx_vnni(); }

#elif defined(__aarch64__) && defined(__linux__)

#include <sys/auxv.h>
#define HWCAP_ASIMDDP_BIT (1ul << 20)
static gs_isa detect(void) { return getauxval(AT_HWCAP) & HWCAP_ASIMDDP_BIT ? GS_ISA_NEONDOT : GS_ISA_NEON; }

#elif defined(__aarch64__)

static gs_isa detect(void) {
#if defined(__ARM_FEATURE_DOTPROD)
  return GS_ISA_NEONDOT;
#else
  return GS_ISA_NEON;
#endif
}

#elif defined(__arm__) && defined(__ARM_NEON) && defined(__linux__)

#include <sys/auxv.h>
#define HWCAP_NEON_BIT (1ul << 12)
#define HWCAP_VFPV4_BIT (1ul << 16)
static gs_isa detect(void) {
  unsigned long need = HWCAP_NEON_BIT | HWCAP_VFPV4_BIT;
  return (getauxval(AT_HWCAP) & need) == need ? GS_ISA_NEON : GS_ISA_SCALAR;
}

#elif defined(__wasm_relaxed_simd__)

#include "../kernels/wasm/probe.h"

static gs_isa detect(void) { return gs_wasm_probe(); }

#elif defined(__wasm_simd128__)

static gs_isa detect(void) { return GS_ISA_WASM128; }

#else

static gs_isa detect(void) { return GS_ISA_SCALAR; }

#endif

#if !defined(__x86_64__)
static bool runs(gs_isa isa) { return (void)isa, true; }
#endif

gs_isa gs_detect_isa(void) { return detect(); }

gs_isa gs_isa_within(gs_isa cap) {
  gs_isa best = detect();
  if (cap >= best) return best;
  return runs(cap) ? cap : GS_ISA_AVX2;
}

static const struct {
  gs_isa isa;
  const char *name;
} names[] = {
    {GS_ISA_SCALAR, "scalar"},   {GS_ISA_AVX2, "avx2"},       {GS_ISA_AVXVNNI, "avxvnni"}, {GS_ISA_AVX512VNNI, "avx512vnni"},
    {GS_ISA_NEON, "neon"},       {GS_ISA_NEONDOT, "neondot"}, {GS_ISA_WASM128, "wasm128"},
    {GS_ISA_WASMRELAXED, "wasmrelaxed"}, {GS_ISA_WASMDOT, "wasmdot"}, {GS_ISA_BEST, "best"},
};

const char *gs_isa_name(gs_isa isa) {
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (names[i].isa == isa) return names[i].name;
  return "unknown";
}

int gs_isa_parse(const char *name) {
  if (name == NULL) return -1;
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (strcmp(names[i].name, name) == 0) return (int)names[i].isa;
  return -1;
}
