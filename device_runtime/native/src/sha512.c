/* SHA-512 (FIPS 180-4). The message schedule runs in sixteen registers beside the rounds: signatures are checked in
 * every cold start, over the whole bundle. */
#include "sha512.h"

#include <string.h>

#include "gossamer.h"

/* First 64 bits of the fractional parts of the cube roots of the first 80 primes. */
static const uint64_t K[80] = {
    0x428a2f98d728ae22, 0x7137449123ef65cd, 0xb5c0fbcfec4d3b2f, 0xe9b5dba58189dbbc,
    0x3956c25bf348b538, 0x59f111f1b605d019, 0x923f82a4af194f9b, 0xab1c5ed5da6d8118,
    0xd807aa98a3030242, 0x12835b0145706fbe, 0x243185be4ee4b28c, 0x550c7dc3d5ffb4e2,
    0x72be5d74f27b896f, 0x80deb1fe3b1696b1, 0x9bdc06a725c71235, 0xc19bf174cf692694,
    0xe49b69c19ef14ad2, 0xefbe4786384f25e3, 0x0fc19dc68b8cd5b5, 0x240ca1cc77ac9c65,
    0x2de92c6f592b0275, 0x4a7484aa6ea6e483, 0x5cb0a9dcbd41fbd4, 0x76f988da831153b5,
    0x983e5152ee66dfab, 0xa831c66d2db43210, 0xb00327c898fb213f, 0xbf597fc7beef0ee4,
    0xc6e00bf33da88fc2, 0xd5a79147930aa725, 0x06ca6351e003826f, 0x142929670a0e6e70,
    0x27b70a8546d22ffc, 0x2e1b21385c26c926, 0x4d2c6dfc5ac42aed, 0x53380d139d95b3df,
    0x650a73548baf63de, 0x766a0abb3c77b2a8, 0x81c2c92e47edaee6, 0x92722c851482353b,
    0xa2bfe8a14cf10364, 0xa81a664bbc423001, 0xc24b8b70d0f89791, 0xc76c51a30654be30,
    0xd192e819d6ef5218, 0xd69906245565a910, 0xf40e35855771202a, 0x106aa07032bbd1b8,
    0x19a4c116b8d2d0c8, 0x1e376c085141ab53, 0x2748774cdf8eeb99, 0x34b0bcb5e19b48a8,
    0x391c0cb3c5c95a63, 0x4ed8aa4ae3418acb, 0x5b9cca4f7763e373, 0x682e6ff3d6b2b8a3,
    0x748f82ee5defb2fc, 0x78a5636f43172f60, 0x84c87814a1f0ab72, 0x8cc702081a6439ec,
    0x90befffa23631e28, 0xa4506cebde82bde9, 0xbef9a3f7b2c67915, 0xc67178f2e372532b,
    0xca273eceea26619c, 0xd186b8c721c0c207, 0xeada7dd6cde0eb1e, 0xf57d4f7fee6ed178,
    0x06f067aa72176fba, 0x0a637dc5a2c898a6, 0x113f9804bef90dae, 0x1b710b35131c471b,
    0x28db77f523047d84, 0x32caab7b40c72493, 0x3c9ebe0a15c9bebc, 0x431d67c49c100d4c,
    0x4cc5d4becb3e42b6, 0x597f299cfc657e2a, 0x5fcb6fab3ad6faec, 0x6c44198c4a475817};

static uint64_t rotr(uint64_t v, int n) { return v >> n | v << (64 - n); }

static uint64_t load_be(const uint8_t *p) {
  uint64_t v;
  memcpy(&v, p, 8);
  return __builtin_bswap64(v);
}

#define ROUND(a, b, c, d, e, f, g, h, i)                                                                    \
  do {                                                                                                      \
    uint64_t t = h + (rotr(e, 14) ^ rotr(e, 18) ^ rotr(e, 41)) + (g ^ (e & (f ^ g))) + K[r + (i)] + w[i];    \
    d += t;                                                                                                  \
    h = t + (rotr(a, 28) ^ rotr(a, 34) ^ rotr(a, 39)) + ((a & b) | (c & (a | b)));                           \
  } while (0)

#define EXTEND(i)                                                                                           \
  do {                                                                                                      \
    uint64_t x = w[((i) + 1) & 15], y = w[((i) + 14) & 15];                                                  \
    w[i] += (rotr(x, 1) ^ rotr(x, 8) ^ x >> 7) + w[((i) + 9) & 15] + (rotr(y, 19) ^ rotr(y, 61) ^ y >> 6);   \
  } while (0)

#define EIGHT(i)                          \
  ROUND(a, b, c, d, e, f, g, h, i);       \
  ROUND(h, a, b, c, d, e, f, g, (i) + 1); \
  ROUND(g, h, a, b, c, d, e, f, (i) + 2); \
  ROUND(f, g, h, a, b, c, d, e, (i) + 3); \
  ROUND(e, f, g, h, a, b, c, d, (i) + 4); \
  ROUND(d, e, f, g, h, a, b, c, (i) + 5); \
  ROUND(c, d, e, f, g, h, a, b, (i) + 6); \
  ROUND(b, c, d, e, f, g, h, a, (i) + 7)

static inline __attribute__((always_inline)) void rounds(uint64_t state[8], const uint8_t *p, size_t blocks) {
  uint64_t a = state[0], b = state[1], c = state[2], d = state[3];
  uint64_t e = state[4], f = state[5], g = state[6], h = state[7];
  for (; blocks != 0; blocks--, p += 128) {
    uint64_t w[16];
    for (int i = 0; i < 16; i++) w[i] = load_be(p + 8 * i);
    int r = 0;
    EIGHT(0);
    EIGHT(8);
    for (r = 16; r < 80; r += 16) {
      EXTEND(0); EXTEND(1); EXTEND(2); EXTEND(3); EXTEND(4); EXTEND(5); EXTEND(6); EXTEND(7);
      EIGHT(0);
      EXTEND(8); EXTEND(9); EXTEND(10); EXTEND(11); EXTEND(12); EXTEND(13); EXTEND(14); EXTEND(15);
      EIGHT(8);
    }
    a = state[0] += a;
    b = state[1] += b;
    c = state[2] += c;
    d = state[3] += d;
    e = state[4] += e;
    f = state[5] += f;
    g = state[6] += g;
    h = state[7] += h;
  }
}

static void compress_plain(uint64_t state[8], const uint8_t *p, size_t blocks) { rounds(state, p, blocks); }

#if defined(__x86_64__)
/* The same with RORX and ANDN: a quarter faster. Every machine with AVX2 that the core uses has them. */
__attribute__((target("bmi,bmi2"))) static void compress_bmi2(uint64_t state[8], const uint8_t *p, size_t blocks) {
  rounds(state, p, blocks);
}
static void (*best_compress(void))(uint64_t[8], const uint8_t *, size_t) {
  return gs_detect_isa() >= GS_ISA_AVX2 ? compress_bmi2 : compress_plain;
}
#else
static void (*best_compress(void))(uint64_t[8], const uint8_t *, size_t) { return compress_plain; }
#endif

void gs_sha512_init(gs_sha512 *s) {
  /* Of the square roots of the first 8 primes. */
  static const uint64_t initial[8] = {
    0x6a09e667f3bcc908, 0xbb67ae8584caa73b, 0x3c6ef372fe94f82b, 0xa54ff53a5f1d36f1,
    0x510e527fade682d1, 0x9b05688c2b3e6c1f, 0x1f83d9abfb41bd6b, 0x5be0cd19137e2179};
  memcpy(s->state, initial, sizeof initial);
  s->length = 0;
  s->compress = best_compress();
}

void gs_sha512_update(gs_sha512 *s, const void *data, size_t size) {
  const uint8_t *p = data;
  size_t used = (size_t)(s->length % 128);
  s->length += size;
  if (used != 0) {
    size_t part = size < 128 - used ? size : 128 - used;
    memcpy(s->block + used, p, part);
    if (used + part < 128) return;
    s->compress(s->state, s->block, 1);
    p += part;
    size -= part;
  }
  s->compress(s->state, p, size / 128);
  if (size % 128 != 0) memcpy(s->block, p + size / 128 * 128, size % 128);
}

void gs_sha512_final(gs_sha512 *s, uint8_t digest[64]) {
  size_t used = (size_t)(s->length % 128);
  uint64_t bits = __builtin_bswap64(s->length << 3), high = __builtin_bswap64(s->length >> 61);
  s->block[used++] = 0x80;
  if (used > 112) {
    memset(s->block + used, 0, 128 - used);
    s->compress(s->state, s->block, 1);
    used = 0;
  }
  memset(s->block + used, 0, 112 - used);
  memcpy(s->block + 112, &high, 8);
  memcpy(s->block + 120, &bits, 8);
  s->compress(s->state, s->block, 1);
  for (int i = 0; i < 8; i++) {
    uint64_t v = __builtin_bswap64(s->state[i]);
    memcpy(digest + 8 * i, &v, 8);
  }
}
