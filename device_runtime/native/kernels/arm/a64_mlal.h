/* Inner loops of int8 matrix products on aarch64 without a dot product, in assembly as those of a64_mm.h and for the same reason.
 * Two groups of four channels at a time: smull of the first, smlal of the second into the same 16 bits (2 * 127 * 128 fits),
 * sadalp into 32 bits; an accumulator holds two pixels of two half sums each. x: v0-v3 and v4-v7; weights: v28-v31, each one
 * word in all lanes; products: v24-v27; accumulators: v8-v23. */
#ifndef GS_ARM_A64_MLAL_H
#define GS_ARM_A64_MLAL_H
#include "a64_mm.h"

#if defined(__aarch64__)
/* Two vectors of four pixels of two groups (p0, p1 of the first; q0, q1 of the second) into four accumulators. */
#define PAIR8(p0, p1, q0, q1, w0, w1, a0, a1, a2, a3) \
  "smull v24.8h, " p0 ".8b, " w0 ".8b\n" \
  "smull2 v25.8h, " p0 ".16b, " w0 ".16b\n" \
  "smull v26.8h, " p1 ".8b, " w0 ".8b\n" \
  "smull2 v27.8h, " p1 ".16b, " w0 ".16b\n" \
  "smlal v24.8h, " q0 ".8b, " w1 ".8b\n" \
  "smlal2 v25.8h, " q0 ".16b, " w1 ".16b\n" \
  "smlal v26.8h, " q1 ".8b, " w1 ".8b\n" \
  "smlal2 v27.8h, " q1 ".16b, " w1 ".16b\n" \
  "sadalp " a0 ".4s, v24.8h\n" \
  "sadalp " a1 ".4s, v25.8h\n" \
  "sadalp " a2 ".4s, v26.8h\n" \
  "sadalp " a3 ".4s, v27.8h\n"
/* The same of one group alone. */
#define LAST8(p0, p1, w0, a0, a1, a2, a3) \
  "smull v24.8h, " p0 ".8b, " w0 ".8b\n" \
  "smull2 v25.8h, " p0 ".16b, " w0 ".16b\n" \
  "smull v26.8h, " p1 ".8b, " w0 ".8b\n" \
  "smull2 v27.8h, " p1 ".16b, " w0 ".16b\n" \
  "sadalp " a0 ".4s, v24.8h\n" \
  "sadalp " a1 ".4s, v25.8h\n" \
  "sadalp " a2 ".4s, v26.8h\n" \
  "sadalp " a3 ".4s, v27.8h\n"

/* Sixteen pixels. */
#define PAIR16_LOW(w0, w1) CALL(PAIR8, "v0", "v1", "v4", "v5", w0, w1, G0) CALL(PAIR8, "v2", "v3", "v6", "v7", w0, w1, G1)
#define PAIR16_HIGH(w0, w1) CALL(PAIR8, "v0", "v1", "v4", "v5", w0, w1, G2) CALL(PAIR8, "v2", "v3", "v6", "v7", w0, w1, G3)
#define LAST16_LOW(w0) CALL(LAST8, "v0", "v1", w0, G0) CALL(LAST8, "v2", "v3", w0, G1)
#define LAST16_HIGH(w0) CALL(LAST8, "v4", "v5", w0, G2) CALL(LAST8, "v6", "v7", w0, G3)

/* Entries at byte offsets p0, p1: sixteen or 32 pixels. */
#define ENTRIES1(p0, p1, w0, w1) \
  "add " p0 ", %[x], " p0 "\n" \
  "add " p1 ", %[x], " p1 "\n" LD_A "[" p0 "]\n" LD_B "[" p1 "]\n" PAIR16_LOW(w0, w1)
#define ENTRIES2(p0, p1, w0, w1) \
  "add " p0 ", %[x], " p0 "\n" \
  "add " p1 ", %[x], " p1 "\n" LD_A "[" p0 "], #64\n" LD_B "[" p1 "], #64\n" PAIR16_LOW(w0, w1) \
  LD_A "[" p0 "]\n" LD_B "[" p1 "]\n" PAIR16_HIGH(w0, w1)
#define LAST_ENTRY1 "add x9, %[x], x9\n" LD_A "[x9]\n" LAST16_LOW("v28")
#define LAST_ENTRY2 "add x9, %[x], x9\n" LD_A "[x9], #64\n" LD_B "[x9]\n" LAST16_LOW("v28") LAST16_HIGH("v28")

/* Accumulators from four double words (bias, 0), the half sums of two pixels each. */
#define SETS1 "ld4r {v8.2d, v9.2d, v10.2d, v11.2d}, [%[bias]]\nld4r {v12.2d, v13.2d, v14.2d, v15.2d}, [%[bias]]\n"
#define SETS2 SETS1 "ld4r {v16.2d, v17.2d, v18.2d, v19.2d}, [%[bias]]\nld4r {v20.2d, v21.2d, v22.2d, v23.2d}, [%[bias]]\n"
#define MLAL_CLOBBERS ROW_CLOBBERS, "v24", "v25", "v26", "v27", "v28", "v29", "v31"
#define MLAL_ROW_ASM(acc, count, ENTRIES, LAST, SETS) \
  do { \
  REGS##count(int32x4_t); \
  __asm__ volatile( \
      SETS "subs %w[n], %w[n], #4\n" \
      "b.lo 2f\n" \
      "1:\n" \
      "ldp w9, w10, [%[off]], #16\n" \
      "ld4r {v28.4s, v29.4s, v30.4s, v31.4s}, [%[val]], #16\n" \
      "ldp w11, w12, [%[off], #-8]\n" \
      ENTRIES("x9", "x10", "v28", "v29") ENTRIES("x11", "x12", "v30", "v31") \
      "subs %w[n], %w[n], #4\n" \
      "b.hs 1b\n" \
      "2:\n" \
      "tbz %w[n], #1, 3f\n" \
      "ldp w9, w10, [%[off]], #8\n" \
      "ld2r {v28.4s, v29.4s}, [%[val]], #8\n" \
      ENTRIES("x9", "x10", "v28", "v29") \
      "3:\n" \
      "tbz %w[n], #0, 4f\n" \
      "ldr w9, [%[off]]\n" \
      "ld1r {v28.4s}, [%[val]]\n" LAST \
      "4:\n" \
      : OUT##count, [n] "+r"(steps), [off] "+r"(offsets), [val] "+r"(values) \
      : [x] "r"(from), [bias] "r"(start) \
      : MLAL_CLOBBERS); \
  (void)COPY##count(acc); \
  } while (0)

/* acc[0 .. 8*units) (two pixels each) = a bias + the entries [first, last) of one row of 1X4 weights; units of sixteen pixels.
 * bias: four times (bias, 0). */
#define GS_MLAL_ROW_1X4(acc, units, bias_, w, x_, first, last) \
  do { \
    const void *start = (bias_); \
    const char *from = (const char *)(x_), *values = (const char *)(w)->val + (size_t)(first) * 4; \
    const uint32_t *offsets = (w)->off + (first); \
    uint32_t steps = (last) - (first); \
    if ((units) == 1) MLAL_ROW_ASM(acc, 8, ENTRIES1, LAST_ENTRY1, SETS1); \
    else MLAL_ROW_ASM(acc, 16, ENTRIES2, LAST_ENTRY2, SETS2); \
  } while (0)

/* Eight pixels of two groups in v0, v1 and v2, v3 times four rows: weights of the first group in v28-v31, of the second in v4-v7. */
#define LD2_A "ld1 {v0.16b, v1.16b}, "
#define LD2_B "ld1 {v2.16b, v3.16b}, "
#define LD_W0 "ld4r {v28.4s, v29.4s, v30.4s, v31.4s}, [%[val]], #16\n"
#define LD_W1 "ld4r {v4.4s, v5.4s, v6.4s, v7.4s}, [%[val]], #16\n"
#define PAIR_ROWS \
  CALL(PAIR8, "v0", "v1", "v2", "v3", "v28", "v4", G0) CALL(PAIR8, "v0", "v1", "v2", "v3", "v29", "v5", G1) \
  CALL(PAIR8, "v0", "v1", "v2", "v3", "v30", "v6", G2) CALL(PAIR8, "v0", "v1", "v2", "v3", "v31", "v7", G3)
#define LAST_ROWS \
  CALL(LAST8, "v0", "v1", "v28", G0) CALL(LAST8, "v0", "v1", "v29", G1) \
  CALL(LAST8, "v0", "v1", "v30", G2) CALL(LAST8, "v0", "v1", "v31", G3)
#define SETS_ROWS \
  "ld4r {v8.2d, v9.2d, v10.2d, v11.2d}, [%[bias]], #32\n" \
  "ld4r {v12.2d, v13.2d, v14.2d, v15.2d}, [%[bias]], #32\n" \
  "ld4r {v16.2d, v17.2d, v18.2d, v19.2d}, [%[bias]], #32\n" \
  "ld4r {v20.2d, v21.2d, v22.2d, v23.2d}, [%[bias]]\n"
#define MLAL_TILE_CLOBBERS \
  "x9", "x10", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31", "cc", "memory"

/* acc[4*row + 0..3] = biases + the entries [first, last) that four rows share times eight pixels. biases: four times (bias, 0) of
 * each row. */
#define GS_MLAL_TILE_4X4(acc, biases, w, x_, first, last) \
  do { \
    REGS16(int32x4_t); \
    const void *start = (biases); \
    const char *from = (const char *)(x_), *values = (const char *)(w)->val + (size_t)(first) * 16; \
    const uint32_t *offsets = (w)->off + (first); \
    uint32_t steps = (last) - (first); \
    __asm__ volatile( \
        SETS_ROWS "subs %w[n], %w[n], #2\n" \
        "b.lo 2f\n" \
        "1:\n" \
        "ldp w9, w10, [%[off]], #8\n" LD_W0 LD_W1 \
        "add x9, %[x], x9\n" \
        "add x10, %[x], x10\n" LD2_A "[x9]\n" LD2_B "[x10]\n" PAIR_ROWS \
        "subs %w[n], %w[n], #2\n" \
        "b.hs 1b\n" \
        "2:\n" \
        "tbz %w[n], #0, 4f\n" \
        "ldr w9, [%[off]]\n" LD_W0 \
        "add x9, %[x], x9\n" LD2_A "[x9]\n" LAST_ROWS \
        "4:\n" \
        : OUT16, [bias] "+r"(start), [n] "+r"(steps), [off] "+r"(offsets), [val] "+r"(values) \
        : [x] "r"(from) \
        : MLAL_TILE_CLOBBERS); \
    (void)COPY16(acc); \
  } while (0)

/* The same of `groups` groups in order. */
#define GS_MLAL_TILE_DENSE(acc, biases, val_, x_, x_stride, groups) \
  do { \
    REGS16(int32x4_t); \
    const void *start = (biases); \
    const char *from = (const char *)(x_), *values = (const char *)(val_); \
    uint32_t steps = (groups); \
    __asm__ volatile( \
        SETS_ROWS "subs %w[n], %w[n], #2\n" \
        "b.lo 2f\n" \
        "1:\n" LD_W0 LD_W1 LD2_A "[%[x]], %[stride]\n" LD2_B "[%[x]], %[stride]\n" PAIR_ROWS \
        "subs %w[n], %w[n], #2\n" \
        "b.hs 1b\n" \
        "2:\n" \
        "tbz %w[n], #0, 4f\n" LD_W0 LD2_A "[%[x]]\n" LAST_ROWS \
        "4:\n" \
        : OUT16, [bias] "+r"(start), [n] "+r"(steps), [x] "+r"(from), [val] "+r"(values) \
        : [stride] "r"(x_stride) \
        : MLAL_TILE_CLOBBERS); \
    (void)COPY16(acc); \
  } while (0)
#endif
#endif
