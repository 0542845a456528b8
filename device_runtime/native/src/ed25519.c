/* Ed25519 verification (RFC 8032, section 5.1.7, without cofactor). Only public values pass through here, so nothing
 * needs constant time. Stricter than it must be: S and the public key must be canonical, and keys of small order, under
 * which anybody can sign anything, are refused. */
#include <string.h>

#include "core.h"
#include "sha512.h"

/* ---- the field of 2^255 - 19: ten limbs of 26 and 25 bits in turn, so that 32-bit machines multiply them fast ---- */

typedef struct {
  uint32_t v[10];
} fe;

#define LIMB_BITS(i) (((i) & 1) ? 25 : 26)
#define LIMB_MASK(i) ((1u << LIMB_BITS(i)) - 1)

/* Limbs end within their bits, except limb 1, which may hold one more. */
static fe carried(uint64_t t[10]) {
  fe r;
  for (int i = 0; i < 9; i++) {
    t[i + 1] += t[i] >> LIMB_BITS(i);
    t[i] &= LIMB_MASK(i);
  }
  t[0] += 19 * (t[9] >> 25);
  t[9] &= LIMB_MASK(9);
  t[1] += t[0] >> 26;
  t[0] &= LIMB_MASK(0);
  for (int i = 0; i < 10; i++) r.v[i] = (uint32_t)t[i];
  return r;
}

static fe fe_small(uint32_t v) { return (fe){{v}}; }

static fe fe_add(fe a, fe b) {
  uint64_t t[10];
  for (int i = 0; i < 10; i++) t[i] = (uint64_t)a.v[i] + b.v[i];
  return carried(t);
}

static fe fe_sub(fe a, fe b) {
  uint64_t t[10];
  for (int i = 0; i < 10; i++) { /* 4p keeps every limb above zero */
    uint64_t four_p = 4ull * (i == 0 ? LIMB_MASK(0) - 18 : LIMB_MASK(i));
    t[i] = a.v[i] + four_p - b.v[i];
  }
  return carried(t);
}

static fe fe_mul(fe a, fe b) {
  uint64_t t[10] = {0};
  uint32_t b19[10];
  for (int i = 0; i < 10; i++) b19[i] = 19 * b.v[i];
  for (int i = 0; i < 10; i++) {
    uint64_t even = a.v[i], odd = (i & 1) ? 2ull * a.v[i] : a.v[i]; /* two odd limbs fall half a limb short */
    for (int j = 0; j < 10; j++) {
      uint64_t f = (j & 1) ? odd : even;
      if (i + j < 10)
        t[i + j] += f * b.v[j];
      else
        t[i + j - 10] += f * b19[j]; /* 2^255 = 19 */
    }
  }
  return carried(t);
}

static fe fe_square_n(fe a, int n) {
  while (n-- > 0) a = fe_mul(a, a);
  return a;
}

/* z^(2^252 - 3) */
static fe fe_pow22523(fe z) {
  fe z2 = fe_mul(z, z), z9 = fe_mul(z, fe_square_n(z2, 2)), z11 = fe_mul(z2, z9);
  fe e5 = fe_mul(z9, fe_mul(z11, z11)); /* z^(2^5 - 1) */
  fe e10 = fe_mul(fe_square_n(e5, 5), e5), e20 = fe_mul(fe_square_n(e10, 10), e10);
  fe e40 = fe_mul(fe_square_n(e20, 20), e20), e50 = fe_mul(fe_square_n(e40, 10), e10);
  fe e100 = fe_mul(fe_square_n(e50, 50), e50), e200 = fe_mul(fe_square_n(e100, 100), e100);
  fe e250 = fe_mul(fe_square_n(e200, 50), e50);
  return fe_mul(fe_square_n(e250, 2), z);
}

/* z^(p - 2), and p - 2 = 8 (2^252 - 3) + 3 */
static fe fe_invert(fe z) { return fe_mul(fe_square_n(fe_pow22523(z), 3), fe_mul(z, fe_mul(z, z))); }

/* The top bit is not part of the number. */
static fe fe_from_bytes(const uint8_t s[32]) {
  fe r;
  int bit = 0;
  for (int i = 0; i < 10; i++) {
    uint64_t word = 0;
    for (int k = 0; k < 5 && bit / 8 + k < 32; k++) word |= (uint64_t)s[bit / 8 + k] << (8 * k);
    r.v[i] = (uint32_t)(word >> (bit % 8)) & LIMB_MASK(i);
    bit += LIMB_BITS(i);
  }
  return r;
}

static void fe_to_bytes(fe a, uint8_t s[32]) {
  uint64_t t[10];
  for (int i = 0; i < 10; i++) t[i] = a.v[i];
  a = carried(t); /* below 2^255 + 2^51 now */
  uint32_t q = 19;
  for (int i = 0; i < 10; i++) q = (a.v[i] + q) >> LIMB_BITS(i); /* 1 if a >= p */
  uint32_t carry = 19 * q;
  memset(s, 0, 32);
  int bit = 0;
  for (int i = 0; i < 10; i++) {
    uint32_t limb = a.v[i] + carry;
    carry = limb >> LIMB_BITS(i);
    uint64_t word = (uint64_t)(limb & LIMB_MASK(i)) << (bit % 8);
    for (int k = 0; k < 5 && bit / 8 + k < 32; k++) s[bit / 8 + k] |= (uint8_t)(word >> (8 * k));
    bit += LIMB_BITS(i);
  }
}

static bool fe_equal(fe a, fe b) {
  uint8_t x[32], y[32];
  fe_to_bytes(a, x);
  fe_to_bytes(b, y);
  return memcmp(x, y, 32) == 0;
}

static bool fe_odd(fe a) {
  uint8_t s[32];
  fe_to_bytes(a, s);
  return s[0] & 1;
}

/* ---- the curve -x^2 + y^2 = 1 + d x^2 y^2 in extended coordinates: x = X/Z, y = Y/Z, T = XY/Z ---- */

typedef struct {
  fe x, y, z, t;
} point;

static const uint8_t d_bytes[32] = {
    0xa3, 0x78, 0x59, 0x13, 0xca, 0x4d, 0xeb, 0x75, 0xab, 0xd8, 0x41, 0x41, 0x4d, 0x0a, 0x70, 0x00,
    0x98, 0xe8, 0x79, 0x77, 0x79, 0x40, 0xc7, 0x8c, 0x73, 0xfe, 0x6f, 0x2b, 0xee, 0x6c, 0x03, 0x52};
static const uint8_t sqrt_minus_one[32] = {
    0xb0, 0xa0, 0x0e, 0x4a, 0x27, 0x1b, 0xee, 0xc4, 0x78, 0xe4, 0x2f, 0xad, 0x06, 0x18, 0x43, 0x2f,
    0xa7, 0xd7, 0xfb, 0x3d, 0x99, 0x00, 0x4d, 0x2b, 0x0b, 0xdf, 0xc1, 0x4f, 0x80, 0x24, 0x83, 0x2b};
/* The base point: y = 4/5, x even. */
static const uint8_t base_bytes[32] = {
    0x58, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
    0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66};

/* Complete: a = -1 is a square and d is not ("Twisted Edwards Curves Revisited", section 3.1). */
static point point_add(point p, point q, fe d2) {
  fe a = fe_mul(fe_sub(p.y, p.x), fe_sub(q.y, q.x)), b = fe_mul(fe_add(p.y, p.x), fe_add(q.y, q.x));
  fe c = fe_mul(fe_mul(p.t, d2), q.t), zz = fe_mul(p.z, q.z), d = fe_add(zz, zz);
  fe e = fe_sub(b, a), f = fe_sub(d, c), g = fe_add(d, c), h = fe_add(b, a);
  return (point){fe_mul(e, f), fe_mul(g, h), fe_mul(f, g), fe_mul(e, h)};
}

static point point_double(point p) {
  fe a = fe_mul(p.x, p.x), b = fe_mul(p.y, p.y), zz = fe_mul(p.z, p.z), xy = fe_add(p.x, p.y);
  fe h = fe_add(a, b), e = fe_sub(h, fe_mul(xy, xy)), g = fe_sub(a, b), f = fe_add(fe_add(zz, zz), g);
  return (point){fe_mul(e, f), fe_mul(g, h), fe_mul(f, g), fe_mul(e, h)};
}

static point point_negate(point p) {
  p.x = fe_sub(fe_small(0), p.x);
  p.t = fe_sub(fe_small(0), p.t);
  return p;
}

static bool point_decode(const uint8_t s[32], point *out) {
  uint8_t canonical[32];
  fe y = fe_from_bytes(s), one = fe_small(1);
  fe_to_bytes(y, canonical);
  canonical[31] |= s[31] & 0x80;
  if (memcmp(canonical, s, 32) != 0) return false; /* y >= p */
  fe yy = fe_mul(y, y), u = fe_sub(yy, one), v = fe_add(fe_mul(yy, fe_from_bytes(d_bytes)), one);
  fe v3 = fe_mul(fe_mul(v, v), v), uv7 = fe_mul(u, fe_mul(fe_mul(v3, v3), v));
  fe x = fe_mul(fe_mul(u, v3), fe_pow22523(uv7)), check = fe_mul(v, fe_mul(x, x));
  if (!fe_equal(check, u)) {
    if (!fe_equal(check, fe_sub(fe_small(0), u))) return false; /* not on the curve */
    x = fe_mul(x, fe_from_bytes(sqrt_minus_one));
  }
  bool sign = s[31] >> 7;
  if (sign && fe_equal(x, fe_small(0))) return false;
  if (fe_odd(x) != sign) x = fe_sub(fe_small(0), x);
  *out = (point){x, y, one, fe_mul(x, y)};
  return true;
}

static void point_encode(point p, uint8_t s[32]) {
  fe inverse = fe_invert(p.z);
  fe_to_bytes(fe_mul(p.y, inverse), s);
  s[31] |= (uint8_t)(fe_odd(fe_mul(p.x, inverse)) << 7);
}

static bool small_order(point p) {
  point eight = point_double(point_double(point_double(p)));
  return fe_equal(eight.x, fe_small(0)) && fe_equal(eight.y, eight.z);
}

static void multiples(point p, fe d2, point table[16]) {
  table[0] = (point){fe_small(0), fe_small(1), fe_small(1), fe_small(0)};
  for (int i = 1; i < 16; i++) table[i] = point_add(table[i - 1], p, d2);
}

/* ---- scalars: numbers modulo the order L of the base point ---- */

static const uint64_t order[4] = {0x5812631a5cf5d3ed, 0x14def9dea2f79cd6, 0x0000000000000000, 0x1000000000000000};

static bool below_order(const uint64_t v[4]) {
  for (int i = 3; i >= 0; i--)
    if (v[i] != order[i]) return v[i] < order[i];
  return false;
}

/* digest, a little-endian number of 512 bits, modulo L, bit by bit from the top */
static void reduce(const uint8_t digest[64], uint8_t out[32]) {
  uint64_t r[4] = {0};
  for (int bit = 511; bit >= 0; bit--) {
    for (int i = 3; i > 0; i--) r[i] = r[i] << 1 | r[i - 1] >> 63;
    r[0] = r[0] << 1 | (digest[bit / 8] >> (bit % 8) & 1);
    if (below_order(r)) continue;
    uint64_t borrow = 0;
    for (int i = 0; i < 4; i++) {
      uint64_t less = r[i] - order[i], wrapped = r[i] < order[i];
      r[i] = less - borrow;
      borrow = wrapped | (less < borrow);
    }
  }
  memcpy(out, r, 32);
}

/* ---- verification: encode(S B - h A) == R ---- */

gs_status gs_ed25519_verify(const uint8_t signature[64], const uint8_t public_key[32], const void *message, size_t size) {
  if (signature == NULL || public_key == NULL || (message == NULL && size != 0)) return GS_E_SIGNATURE;
  uint64_t s[4];
  memcpy(s, signature + 32, 32);
  if (!below_order(s)) return GS_E_SIGNATURE;
  point a, b;
  if (!point_decode(public_key, &a) || small_order(a) || !point_decode(base_bytes, &b)) return GS_E_SIGNATURE;

  uint8_t digest[64], h[32];
  gs_sha512 hash;
  gs_sha512_init(&hash);
  gs_sha512_update(&hash, signature, 32);
  gs_sha512_update(&hash, public_key, 32);
  if (size != 0) gs_sha512_update(&hash, message, size);
  gs_sha512_final(&hash, digest);
  reduce(digest, h);

  fe d = fe_from_bytes(d_bytes), d2 = fe_add(d, d);
  point of_a[16], of_b[16];
  multiples(point_negate(a), d2, of_a);
  multiples(b, d2, of_b);
  point r = of_a[0];
  for (int i = 63; i >= 0; i--) { /* four bits of both scalars at a time */
    for (int k = 0; k < 4; k++) r = point_double(r);
    r = point_add(r, of_a[h[i / 2] >> (4 * (i % 2)) & 15], d2);
    r = point_add(r, of_b[signature[32 + i / 2] >> (4 * (i % 2)) & 15], d2);
  }
  uint8_t encoded[32];
  point_encode(r, encoded);
  return memcmp(encoded, signature, 32) == 0 ? GS_OK : GS_E_SIGNATURE;
}
