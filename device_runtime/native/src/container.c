/* Reads and checks the container: header, section table, alignment, order, gaps, exact length. */
#include "container.h"

#include <string.h>

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "bundles are little-endian and read in place: big-endian machines are not supported"
#endif

static bool all_zero(const uint8_t *p, uint64_t n) {
  for (uint64_t i = 0; i < n; i++)
    if (p[i] != 0) return false;
  return true;
}

static uint64_t align_up(uint64_t v) { return (v + GS_ALIGN - 1) & ~(uint64_t)(GS_ALIGN - 1); }

static const char *section_name(uint32_t kind) {
  static const char *const names[] = {"", "PLAN", "WEIGHTS", "MANIFEST", "EXTERN", "SIGNATURE"};
  return kind >= GS_SECTION_PLAN && kind <= GS_SECTION_SIGNATURE ? names[kind] : "unknown";
}

static gs_status read_header(const uint8_t *bytes, size_t size, gs_file_header *h, gs_error *error) {
  if (size == 0) return gs_fail(error, GS_E_FORMAT, "the bundle is empty");
  if (size < sizeof *h || memcmp(bytes, GS_MAGIC, 8) != 0)
    return gs_fail(error, GS_E_FORMAT, "not a Gossamer bundle: it does not start with '%s' (%zu bytes)", GS_MAGIC, size);
  memcpy(h, bytes, sizeof *h);
  if (h->version > GS_FORMAT_VERSION)
    return gs_fail(error, GS_E_VERSION, "bundle format %u is newer than this runtime reads (%u): update gossamer-runtime",
                   h->version, GS_FORMAT_VERSION);
  if (h->version != GS_FORMAT_VERSION) return gs_fail(error, GS_E_FORMAT, "bundle format %u does not exist", h->version);
  if (size > GS_CAP_FILE)
    return gs_fail(error, GS_E_FORMAT, "the bundle has %zu bytes, above the limit of %llu", size, GS_CAP_FILE);
  if (h->file_size != size)
    return gs_fail(error, GS_E_FORMAT, "the bundle has %zu bytes but its header says %llu: it is truncated or has been added to",
                   size, (unsigned long long)h->file_size);
  if (!all_zero(h->reserved, sizeof h->reserved))
    return gs_fail(error, GS_E_FORMAT, "file header: reserved bytes are not zero");
  if (h->n_sections < 4 || h->n_sections > GS_CAP_SECTIONS)
    return gs_fail(error, GS_E_FORMAT, "file header: %u sections, expected 4 to %u", h->n_sections, GS_CAP_SECTIONS);
  if (sizeof *h + (uint64_t)h->n_sections * sizeof(gs_section) > size)
    return gs_fail(error, GS_E_FORMAT, "the section table (%u entries) runs past the end of the file", h->n_sections);
  return GS_OK;
}

static gs_status file_section(gs_container *c, uint32_t i, uint32_t n, const gs_section *s, gs_span span, gs_error *error) {
  if (s->kind != GS_SECTION_EXTERN && s->tag != 0)
    return gs_fail(error, GS_E_FORMAT, "section %u (%s): tag %u, expected 0", i, section_name(s->kind), s->tag);
  gs_span *slot = NULL;
  switch (s->kind) {
    case GS_SECTION_PLAN: slot = &c->plan; break;
    case GS_SECTION_WEIGHTS: slot = &c->weights; break;
    case GS_SECTION_MANIFEST: slot = &c->manifest; break;
    case GS_SECTION_SIGNATURE: slot = &c->signature; break;
    case GS_SECTION_EXTERN:
      if (s->tag < GS_BACKEND_ONNXRUNTIME || s->tag > GS_BACKEND_FPGA)
        return gs_fail(error, GS_E_FORMAT, "section %u (EXTERN): unknown backend %u", i, s->tag);
      c->backends[c->n_externs] = s->tag;
      c->externs[c->n_externs++] = span;
      break;
    default: return gs_fail(error, GS_E_FORMAT, "section %u: unknown kind %u", i, s->kind);
  }
  if (slot != NULL) {
    if (slot->data != NULL) return gs_fail(error, GS_E_FORMAT, "section %u: a second %s", i, section_name(s->kind));
    *slot = span;
  }
  if (s->size == 0 && s->kind != GS_SECTION_WEIGHTS)
    return gs_fail(error, GS_E_FORMAT, "section %u (%s) is empty", i, section_name(s->kind));
  if ((s->kind == GS_SECTION_SIGNATURE) != (i == n - 1))
    return gs_fail(error, GS_E_FORMAT, "section %u (%s): the last section, and only it, must be SIGNATURE", i,
                   section_name(s->kind));
  if (s->kind == GS_SECTION_SIGNATURE && s->size != GS_SIGNATURE_BYTES)
    return gs_fail(error, GS_E_FORMAT, "SIGNATURE has %llu bytes, expected %u", (unsigned long long)s->size,
                   GS_SIGNATURE_BYTES);
  return GS_OK;
}

gs_status gs_container_read(const void *data, size_t size, gs_container *out, gs_error *error) {
  const uint8_t *bytes = data;
  memset(out, 0, sizeof *out);
  gs_file_header h;
  gs_status status = read_header(bytes, size, &h, error);
  if (status != GS_OK) return status;
  uint64_t end = sizeof h + (uint64_t)h.n_sections * sizeof(gs_section);
  for (uint32_t i = 0; i < h.n_sections; i++) {
    gs_section s;
    memcpy(&s, bytes + sizeof h + i * sizeof s, sizeof s);
    if (s.reserved != 0) return gs_fail(error, GS_E_FORMAT, "section %u: reserved field is not zero", i);
    uint64_t expected = align_up(end);
    if (s.offset != expected)
      return gs_fail(error, GS_E_FORMAT, "section %u (%s) starts at %llu, expected %llu (no overlap, no holes)", i,
                     section_name(s.kind), (unsigned long long)s.offset, (unsigned long long)expected);
    if (s.offset > size || s.size > size - s.offset)
      return gs_fail(error, GS_E_FORMAT, "section %u (%s): %llu bytes at %llu run past the end of the file (%zu)", i,
                     section_name(s.kind), (unsigned long long)s.size, (unsigned long long)s.offset, size);
    if (!all_zero(bytes + end, s.offset - end))
      return gs_fail(error, GS_E_FORMAT, "section %u (%s): the gap before it is not zero", i, section_name(s.kind));
    gs_span span = {bytes + s.offset, s.offset, s.size};
    status = file_section(out, i, h.n_sections, &s, span, error);
    if (status != GS_OK) return status;
    end = s.offset + s.size;
  }
  if (end != size)
    return gs_fail(error, GS_E_FORMAT, "the last section ends at %llu, the file at %zu", (unsigned long long)end, size);
  const struct {
    const gs_span *span;
    const char *name;
  } needed[] = {{&out->plan, "PLAN"}, {&out->weights, "WEIGHTS"}, {&out->manifest, "MANIFEST"}};
  for (size_t i = 0; i < 3; i++)
    if (needed[i].span->data == NULL) return gs_fail(error, GS_E_FORMAT, "the bundle has no %s section", needed[i].name);
  return GS_OK;
}
