/* Public C interface of the Gossamer core: open a bundle, verify it, run it, profile it.
 *
 * Ownership: the caller owns the bundle bytes and keeps them unchanged until gs_model_close. The core reads
 * weights in place where the machine allows it and never writes to the bytes. A gs_model may be shared by
 * threads once opened; a gs_session belongs to one thread at a time.
 *
 * Safety: gs_model_open accepts any bytes at all. It returns GS_OK only if every count, offset, shape, index
 * and parameter was checked, after which no run of that model reads or writes outside its own buffers.
 *
 * Out of memory: every function that allocates returns GS_E_MEMORY and leaves nothing half made.
 */
#ifndef GOSSAMER_H
#define GOSSAMER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define GS_API __declspec(dllexport)
#else
#define GS_API __attribute__((visibility("default")))
#endif

#define GS_MAX_RANK 6
#define GS_ABI_VERSION 1

typedef enum {
  GS_OK = 0,
  GS_E_ARGUMENT = 1,    /* a null pointer, a wrong size, an index out of range */
  GS_E_FORMAT = 2,      /* the bytes are not a well-formed bundle; the message says what and where */
  GS_E_VERSION = 3,     /* a bundle of a newer format than this core reads */
  GS_E_UNSUPPORTED = 4, /* well formed, but asks for an operator or backend that this build lacks */
  GS_E_MEMORY = 5,      /* an allocation failed */
  GS_E_SIGNATURE = 6,   /* unsigned, signed by a key that was not given, or changed since it was signed */
  GS_E_BACKEND = 7      /* an external backend reported a failure */
} gs_status;

typedef enum { GS_F32 = 1, GS_S8 = 2, GS_U8 = 3, GS_S32 = 4, GS_S64 = 5, GS_S16 = 6, GS_U32 = 7 } gs_dtype;

/* What the machine can run, in rising order within a family. */
typedef enum {
  GS_ISA_SCALAR = 0,
  GS_ISA_AVX2 = 10,
  GS_ISA_AVXVNNI = 11,    /* AVX2 and VNNI in 256 bits; machines with AVX-512 VNNI need not have it */
  GS_ISA_AVX512VNNI = 12, /* AVX-512 F, BW, DQ, VL and VNNI */
  GS_ISA_NEON = 20,
  GS_ISA_NEONDOT = 21, /* NEON with SDOT (Armv8.2 dotprod) */
  GS_ISA_WASM128 = 30,
  GS_ISA_WASMRELAXED = 31, /* relaxed SIMD */
  GS_ISA_WASMDOT = 32, /* and its int8 dot product takes unsigned bytes, as on x86 hosts with VNNI */
  GS_ISA_BEST = 255
} gs_isa;

/* Where and why something failed. Always NUL-terminated. */
typedef struct {
  gs_status code;
  char message[256];
} gs_error;

typedef struct gs_model gs_model;
typedef struct gs_session gs_session;

/* One input or output as the user sees it: row-major, no padding. */
typedef struct {
  const char *name; /* UTF-8, owned by the model */
  gs_dtype dtype;
  uint32_t rank;
  uint32_t dims[GS_MAX_RANK];
  float scale; /* of a quantised tensor, else 0 */
  int32_t zero_point;
  size_t bytes;
} gs_io;

/* One operator of the plan, for reports. All strings are owned by the model or are constants. */
typedef struct {
  const char *name;    /* name of the operator in the plan: the node's name where it came from one */
  const char *source;  /* where the user wrote it: node, source line or module path; may be "" */
  const char *kind;    /* "Conv", "Gemm", ... */
  const char *pattern; /* "dense", "unstructured", "1x4", "4x1", "4x4", "n:m", or "" where there are no weights */
  const char *kernel;  /* micro-kernel that runs it in this session, e.g. "gs_s8_mm_1x4_64x128__avx512vnni" */
  gs_dtype dtype;
  uint64_t macs;          /* multiply-accumulates of the dense operator, 0 where there are none */
  uint64_t macs_executed; /* of these, how many the chosen kernel executes (stored zeros inside blocks count) */
  uint64_t weight_count;  /* dense weights */
  uint64_t weight_nonzero;
  uint64_t bytes_in, bytes_out, bytes_weights;
  uint32_t fused; /* 1: a depthwise operator that runs inside the pointwise one behind it, tile by tile; its time is its share */
} gs_op_info;

/* A tensor handed to an external backend: row-major, read-only for inputs. */
typedef struct {
  void *data;
  gs_dtype dtype;
  uint32_t rank;
  uint32_t dims[GS_MAX_RANK];
  size_t bytes;
} gs_extern_tensor;

/* Runs one external partition. Returns 0, or nonzero to end the run with GS_E_BACKEND. */
typedef int (*gs_extern_fn)(void *user, uint32_t partition, const gs_extern_tensor *inputs, uint32_t n_inputs,
                            const gs_extern_tensor *outputs, uint32_t n_outputs);

typedef struct {
  uint32_t threads;       /* 1 runs on the caller's thread and starts none; at most 64 */
  gs_isa isa_cap;         /* use no kernel above this; GS_ISA_BEST for the machine's best */
  gs_extern_fn extern_fn; /* NULL when the model has no external partition */
  void *extern_user;
} gs_options;

GS_API uint32_t gs_abi_version(void);
GS_API const char *gs_version(void);
/* The best instruction set this machine and build have (what GS_ISA_BEST resolves to). */
GS_API gs_isa gs_detect_isa(void);
GS_API const char *gs_isa_name(gs_isa isa);
/* Parses a name as printed by gs_isa_name. Returns -1 if unknown. */
GS_API int gs_isa_parse(const char *name);

/* Checks the Ed25519 signature of a bundle against n_keys raw 32-byte public keys.
 * GS_OK: signed by one of them. GS_E_SIGNATURE otherwise; GS_E_FORMAT when the container itself is broken. */
GS_API gs_status gs_bundle_verify(const void *bytes, size_t size, const uint8_t (*keys)[32], size_t n_keys,
                                  gs_error *error);
/* Plain Ed25519 verification (RFC 8032, no prehash, canonical S only). GS_OK or GS_E_SIGNATURE. */
GS_API gs_status gs_ed25519_verify(const uint8_t signature[64], const uint8_t public_key[32], const void *message,
                                   size_t size);

/* Checks everything and makes a model over the bytes. Does not check the signature. */
GS_API gs_status gs_model_open(const void *bytes, size_t size, gs_model **model, gs_error *error);
GS_API void gs_model_close(gs_model *model);
GS_API uint32_t gs_model_input_count(const gs_model *model);
GS_API uint32_t gs_model_output_count(const gs_model *model);
GS_API gs_status gs_model_input(const gs_model *model, uint32_t i, gs_io *io);
GS_API gs_status gs_model_output(const gs_model *model, uint32_t i, gs_io *io);
GS_API uint32_t gs_model_op_count(const gs_model *model);
GS_API size_t gs_model_arena_bytes(const gs_model *model);
/* The manifest section: canonical JSON, UTF-8, not NUL-terminated. */
GS_API const void *gs_model_manifest(const gs_model *model, size_t *size);
GS_API uint32_t gs_model_extern_count(const gs_model *model);
/* Payload of external partition i; *backend is one of the GS_BACKEND_ values of plan_format.h. */
GS_API const void *gs_model_extern(const gs_model *model, uint32_t i, uint32_t *backend, size_t *size);

/* Prepares to run: picks a kernel for every operator, repacks weights, allocates the arena. */
GS_API gs_status gs_session_open(const gs_model *model, const gs_options *options, gs_session **session,
                                 gs_error *error);
GS_API void gs_session_close(gs_session *session);
/* One inference. inputs[i] and outputs[i] point to row-major buffers of exactly gs_io.bytes. */
GS_API gs_status gs_session_run(gs_session *session, const void *const *inputs, void *const *outputs,
                                gs_error *error);
/* The same, and writes the nanoseconds of every operator to op_ns[gs_model_op_count]. */
GS_API gs_status gs_session_run_timed(gs_session *session, const void *const *inputs, void *const *outputs,
                                      uint64_t *op_ns, gs_error *error);
GS_API gs_status gs_session_op_info(const gs_session *session, uint32_t op, gs_op_info *info);
/* Bytes this session holds: arena, scratch, repacked weights. */
GS_API size_t gs_session_bytes(const gs_session *session);

#ifdef __cplusplus
}
#endif
#endif
