/* A libFuzzer mutator that knows the records of a plan: it changes shapes, parameters, operands and weights, and mostly
 * keeps each tensor's size in step with its shape, so that mutations get past the loader's arithmetic and reach the
 * operators' own checks. One mutation in eight is libFuzzer's own. */
#include <string.h>

#include "gossamer.h"
#include "plan_format.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

typedef struct {
  uint8_t *tensors, *ops, *refs, *io, *weights;
  uint32_t n_tensors, n_ops, n_refs, n_io;
  uint64_t weights_size, arena_size;
} records;

static uint32_t state;
static uint32_t pick(uint32_t n) { /* 0..n-1 */
  state ^= state << 13;
  state ^= state >> 17;
  state ^= state << 5;
  return n != 0 ? (uint32_t)(((uint64_t)state * n) >> 32) : 0;
}

static uint32_t get(const uint8_t *p) {
  uint32_t v;
  memcpy(&v, p, 4);
  return v;
}
static void put(uint8_t *p, uint32_t v) { memcpy(p, &v, 4); }

static int find_records(uint8_t *data, size_t size, records *r) {
  gs_file_header h;
  gs_section s[2];
  gs_plan_header p;
  if (size < sizeof h + sizeof s) return 0;
  memcpy(&h, data, sizeof h);
  memcpy(s, data + sizeof h, sizeof s);
  if (s[0].kind != GS_SECTION_PLAN || s[0].offset > size || s[0].size > size - s[0].offset || s[0].size < sizeof p) return 0;
  if (s[1].offset > size || s[1].size > size - s[1].offset) return 0;
  memcpy(&p, data + s[0].offset, sizeof p);
  uint64_t tensors = (uint64_t)p.n_tensors * sizeof(gs_tensor_rec), ops = (uint64_t)p.n_ops * sizeof(gs_op_rec);
  uint64_t refs = 4ull * p.n_refs, io = 4ull * p.n_inputs + 4ull * p.n_outputs;
  if (sizeof p + tensors + ops + refs + io > s[0].size || p.n_tensors == 0 || p.n_ops == 0) return 0;
  r->tensors = data + s[0].offset + sizeof p;
  r->ops = r->tensors + tensors;
  r->refs = r->ops + ops;
  r->io = r->refs + refs;
  r->n_tensors = p.n_tensors;
  r->n_ops = p.n_ops;
  r->n_refs = p.n_refs;
  r->n_io = p.n_inputs + p.n_outputs;
  r->weights = data + s[1].offset;
  r->weights_size = s[1].size;
  r->arena_size = p.arena_size;
  return 1;
}

static uint32_t integer(uint32_t old) {
  static const uint32_t odd[] = {0,  1,   2,   3,    4,    5,     7,          8,          15,         16,
                                 17, 127, 128, 1023, 1024, 65535, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFF80};
  switch (pick(5)) {
    case 0: return old + 1;
    case 1: return old - 1;
    case 2: return odd[pick(sizeof odd / sizeof *odd)];
    case 3: return pick(20);
    default: return old ^ 1u << pick(32);
  }
}

static float number(void) {
  static const float odd[] = {0.0f, 1.0f, -1.0f, 0.5f, 6.0f, 1e-30f, 1e30f, -1e30f, 3.4e38f, 1e-38f, 0.0078125f, 255.0f,
                              __builtin_inff(), -__builtin_inff()};
  return odd[pick(sizeof odd / sizeof *odd)];
}

static void fix_size(gs_tensor_rec *t) {
  static const uint32_t item[] = {1, 4, 1, 1, 4, 8, 2, 4};
  uint64_t n = item[t->dtype & 7];
  if (t->layout == GS_LAYOUT_CB && t->rank == 4) {
    uint64_t b = t->dtype == GS_S8 ? 4 : 1, pixels = (uint64_t)t->dims[2] * t->dims[3];
    if (pick(8) != 0) t->pstride = pixels == 1 ? 1 : (uint32_t)((pixels + 15) / 16 * 16);
    n *= (uint64_t)t->dims[0] * ((t->dims[1] + b - 1) / b) * t->pstride * b;
  } else {
    t->pstride = 0;
    for (uint32_t i = 0; i < t->rank && i < 6; i++) n *= t->dims[i];
  }
  t->size = n;
}

static void change_tensor(const records *r) {
  uint8_t *at = r->tensors + pick(r->n_tensors) * sizeof(gs_tensor_rec);
  gs_tensor_rec t;
  memcpy(&t, at, sizeof t);
  uint64_t room = t.place == GS_PLACE_CONST ? r->weights_size : r->arena_size;
  switch (pick(9)) {
    case 0: t.dtype = (uint8_t)(1 + pick(7)); break;
    case 1: t.layout ^= 1; break;
    case 2:
      t.rank = (uint8_t)pick(7);
      for (uint32_t i = 0; i < 6; i++) t.dims[i] = i >= t.rank ? 0 : t.dims[i] != 0 ? t.dims[i] : 1;
      break;
    case 3: t.scale = number(); break;
    case 4: t.zero_point = (int32_t)integer((uint32_t)t.zero_point); break;
    case 5: t.offset = room / 64 != 0 ? 64ull * pick((uint32_t)(room / 64)) : 0; break;
    case 6: t.pstride = integer(t.pstride); break;
    default: {
      uint32_t axis = pick(t.rank != 0 ? t.rank % 7 : 1);
      t.dims[axis % 6] = integer(t.dims[axis % 6]);
    }
  }
  if (pick(8) != 0) fix_size(&t);
  memcpy(at, &t, sizeof t);
}

static void change_op(const records *r) {
  uint8_t *at = r->ops + pick(r->n_ops) * sizeof(gs_op_rec);
  gs_op_rec o;
  memcpy(&o, at, sizeof o);
  switch (pick(10)) {
    case 0: o.kind = (uint16_t)(1 + pick(GS_OP_COUNT - 1)); break;
    case 1: o.n_in = (uint8_t)integer(o.n_in); break;
    case 2: o.n_out = (uint8_t)integer(o.n_out); break;
    case 3: o.f[pick(8)] = number(); break;
    case 4: o.refs = pick(r->n_refs); break;
    default: {
      uint32_t slot = pick(24);
      o.p[slot] = (int32_t)integer((uint32_t)o.p[slot]);
    }
  }
  memcpy(at, &o, sizeof o);
}

static void change_one(const records *r) {
  uint8_t *at;
  switch (pick(6)) {
    case 0:
    case 1: change_tensor(r); break;
    case 2:
    case 3: change_op(r); break;
    case 4:
      at = r->n_io != 0 && pick(8) == 0 ? r->io + 4 * pick(r->n_io) : r->refs + 4 * pick(r->n_refs);
      if (r->n_refs != 0) put(at, pick(6) == 0 ? GS_NONE : pick(3) == 0 ? get(at) + 1 : pick(r->n_tensors));
      break;
    default:
      if (r->weights_size != 0) {
        at = r->weights + pick((uint32_t)r->weights_size);
        *at = (uint8_t)(pick(2) ? pick(256) : integer(*at));
      }
  }
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed) {
  state = seed != 0 ? seed : 1;
  records r;
  if (pick(8) == 0 || !find_records(data, size, &r)) return LLVMFuzzerMutate(data, size, max_size);
  for (uint32_t n = 1 + pick(3); n != 0; n--) change_one(&r);
  return size;
}
