/* Is this bundle signed by one of the trusted keys, and unchanged since? */
#include <string.h>

#include "container.h"

gs_status gs_bundle_verify(const void *bytes, size_t size, const uint8_t (*keys)[32], size_t n_keys, gs_error *error) {
  if (error != NULL) memset(error, 0, sizeof *error);
  if (bytes == NULL || (keys == NULL && n_keys != 0)) return gs_fail(error, GS_E_ARGUMENT, "bytes or keys is a null pointer");
  gs_container c;
  gs_status status = gs_container_read(bytes, size, &c, error);
  if (status != GS_OK) return status;
  static const uint8_t unsigned_bytes[GS_SIGNATURE_BYTES];
  const uint8_t *key = c.signature.data, *signature = key + 32;
  if (memcmp(key, unsigned_bytes, GS_SIGNATURE_BYTES) == 0)
    return gs_fail(error, GS_E_SIGNATURE, "the bundle is not signed: sign it with 'gossamer sign', or allow unsigned bundles");
  bool trusted = false;
  for (size_t i = 0; i < n_keys; i++) trusted |= memcmp(keys[i], key, 32) == 0;
  if (!trusted)
    return gs_fail(error, GS_E_SIGNATURE, "the bundle is signed by key %02x%02x%02x%02x..., which is not among the %zu trusted keys",
                   key[0], key[1], key[2], key[3], n_keys);
  if (gs_ed25519_verify(signature, key, bytes, (size_t)c.signature.offset) != GS_OK)
    return gs_fail(error, GS_E_SIGNATURE, "the signature does not match: the bundle was changed after it was signed");
  return GS_OK;
}
