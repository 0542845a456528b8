/* SHA-512 (FIPS 180-4), for signatures. */
#ifndef GS_SHA512_H
#define GS_SHA512_H
#include <stddef.h>
#include <stdint.h>

typedef struct {
  void (*compress)(uint64_t state[8], const uint8_t *p, size_t blocks);
  uint64_t state[8];
  uint64_t length; /* bytes so far */
  uint8_t block[128];
} gs_sha512;

void gs_sha512_init(gs_sha512 *s);
void gs_sha512_update(gs_sha512 *s, const void *data, size_t size);
void gs_sha512_final(gs_sha512 *s, uint8_t digest[64]);
#endif
