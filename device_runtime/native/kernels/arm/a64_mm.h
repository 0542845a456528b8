/* Inner loops of matrix products on aarch64, in assembly: 16 to 20 accumulators and four vectors a load (ld1) are what the
 * loops need, and compilers spill when they are given that many.
 * OP, X, W: "sdot", "16b", "4b" for int8 (a word of x is four lanes) or "fmla", "4s", "s" for f32; both multiply a vector of
 * four pixels by one word of weights. x vectors lie in v0-v3 and v4-v7 in turns, so that an in-order core loads one group of
 * 16 pixels while it multiplies the other; the weights of four steps are in v30 or v28-v31 and taken lane by lane. */
#ifndef GS_ARM_A64_MM_H
#define GS_ARM_A64_MM_H
#include "neon.h"

#if defined(__aarch64__)
#define LD_A "ld1 {v0.16b, v1.16b, v2.16b, v3.16b}, "
#define LD_B "ld1 {v4.16b, v5.16b, v6.16b, v7.16b}, "

/* acc[4g + 0..3] += the group of sixteen pixels in v(base)... times lane `lane` of v30. */
#define MUL4(OP, X, W, a0, a1, a2, a3, x0, x1, x2, x3, lane) \
  OP " %[" a0 "].4s, " x0 "." X ", v30." W "[" lane "]\n" \
  OP " %[" a1 "].4s, " x1 "." X ", v30." W "[" lane "]\n" \
  OP " %[" a2 "].4s, " x2 "." X ", v30." W "[" lane "]\n" \
  OP " %[" a3 "].4s, " x3 "." X ", v30." W "[" lane "]\n"
#define MUL4_A(OP, X, W, a0, a1, a2, a3, lane) MUL4(OP, X, W, a0, a1, a2, a3, "v0", "v1", "v2", "v3", lane)
#define MUL4_B(OP, X, W, a0, a1, a2, a3, lane) MUL4(OP, X, W, a0, a1, a2, a3, "v4", "v5", "v6", "v7", lane)
#define G0 "a0", "a1", "a2", "a3"
#define G1 "a4", "a5", "a6", "a7"
#define G2 "a8", "a9", "a10", "a11"
#define G3 "a12", "a13", "a14", "a15"
#define G4 "a16", "a17", "a18", "a19"
#define CALL(m, ...) m(__VA_ARGS__)

/* One entry whose byte offset is in the low half of register p: 16, 32, ... 80 pixels. */
#define ENTRY1(OP, X, W, p, lane) \
  "add " p ", %[x], " p "\n" \
  LD_A "[" p "]\n" \
  CALL(MUL4_A, OP, X, W, G0, lane)
#define ENTRY2(OP, X, W, p, lane) \
  "add " p ", %[x], " p "\n" \
  LD_A "[" p "], #64\n" LD_B "[" p "]\n" \
  CALL(MUL4_A, OP, X, W, G0, lane) CALL(MUL4_B, OP, X, W, G1, lane)
#define ENTRY3(OP, X, W, p, lane) \
  "add " p ", %[x], " p "\n" \
  LD_A "[" p "], #64\n" LD_B "[" p "], #64\n" \
  CALL(MUL4_A, OP, X, W, G0, lane) LD_A "[" p "]\n" \
  CALL(MUL4_B, OP, X, W, G1, lane) CALL(MUL4_A, OP, X, W, G2, lane)
#define ENTRY4(OP, X, W, p, lane) \
  "add " p ", %[x], " p "\n" \
  LD_A "[" p "], #64\n" LD_B "[" p "], #64\n" \
  CALL(MUL4_A, OP, X, W, G0, lane) LD_A "[" p "], #64\n" \
  CALL(MUL4_B, OP, X, W, G1, lane) LD_B "[" p "]\n" \
  CALL(MUL4_A, OP, X, W, G2, lane) CALL(MUL4_B, OP, X, W, G3, lane)
#define ENTRY5(OP, X, W, p, lane) \
  "add " p ", %[x], " p "\n" \
  LD_A "[" p "], #64\n" LD_B "[" p "], #64\n" \
  CALL(MUL4_A, OP, X, W, G0, lane) LD_A "[" p "], #64\n" \
  CALL(MUL4_B, OP, X, W, G1, lane) LD_B "[" p "], #64\n" \
  CALL(MUL4_A, OP, X, W, G2, lane) LD_A "[" p "]\n" \
  CALL(MUL4_B, OP, X, W, G3, lane) CALL(MUL4_A, OP, X, W, G4, lane)

/* The entries of one row: four at a time, then one at a time. */
#define ROW_LOOP(ENTRY, OP, X, W) \
  "subs %w[n], %w[n], #4\n" \
  "b.lo 2f\n" \
  "1:\n" \
  "ldp w9, w10, [%[off]], #16\n" \
  "ldr q30, [%[val]], #16\n" \
  "ldp w11, w12, [%[off], #-8]\n" \
  ENTRY(OP, X, W, "x9", "0") ENTRY(OP, X, W, "x10", "1") ENTRY(OP, X, W, "x11", "2") ENTRY(OP, X, W, "x12", "3") \
  "subs %w[n], %w[n], #4\n" \
  "b.hs 1b\n" \
  "2:\n" \
  "adds %w[n], %w[n], #4\n" \
  "b.eq 4f\n" \
  "3:\n" \
  "ldr w9, [%[off]], #4\n" \
  "ldr s30, [%[val]], #4\n" \
  ENTRY(OP, X, W, "x9", "0") \
  "subs %w[n], %w[n], #1\n" \
  "b.ne 3b\n" \
  "4:\n"
#define ROW_CLOBBERS "x9", "x10", "x11", "x12", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v30", "cc", "memory"
#define ACC4(a) [a0] "+w"((a)[0]), [a1] "+w"((a)[1]), [a2] "+w"((a)[2]), [a3] "+w"((a)[3])
#define ACC8(a) ACC4(a), [a4] "+w"((a)[4]), [a5] "+w"((a)[5]), [a6] "+w"((a)[6]), [a7] "+w"((a)[7])
#define ACC12(a) ACC8(a), [a8] "+w"((a)[8]), [a9] "+w"((a)[9]), [a10] "+w"((a)[10]), [a11] "+w"((a)[11])
#define ACC16(a) ACC12(a), [a12] "+w"((a)[12]), [a13] "+w"((a)[13]), [a14] "+w"((a)[14]), [a15] "+w"((a)[15])
#define ACC20(a) ACC16(a), [a16] "+w"((a)[16]), [a17] "+w"((a)[17]), [a18] "+w"((a)[18]), [a19] "+w"((a)[19])

#define ROW_ASM(ENTRY, OP, X, W, ACC) \
  __asm__ volatile(ROW_LOOP(ENTRY, OP, X, W) : ACC, [n] "+r"(steps), [off] "+r"(offsets), [val] "+r"(values) : [x] "r"(from) : ROW_CLOBBERS)

/* acc[0 .. 4*units) += the entries [first, last) of one row of 1X4 weights; x at the first pixel. */
#define GS_ROW_1X4(acc, units, w, x_, first, last, OP, X, W) \
  do { \
    const char *from = (const char *)(x_), *values = (const char *)(w)->val + (size_t)(first) * 4; \
    const uint32_t *offsets = (w)->off + (first); \
    uint32_t steps = (last) - (first); \
    if ((units) == 1) ROW_ASM(ENTRY1, OP, X, W, ACC4(acc)); \
    else if ((units) == 2) ROW_ASM(ENTRY2, OP, X, W, ACC8(acc)); \
    else if ((units) == 3) ROW_ASM(ENTRY3, OP, X, W, ACC12(acc)); \
    else if ((units) == 4) ROW_ASM(ENTRY4, OP, X, W, ACC16(acc)); \
    else ROW_ASM(ENTRY5, OP, X, W, ACC20(acc)); \
  } while (0)

/* Sixteen pixels in four vectors times four rows: acc[4*vector + row] += x * w[row]. */
#define MUL16V(OP, X, W, x0, w, a0, a1, a2, a3) \
  OP " %[" a0 "].4s, " x0 "." X ", " w "." W "[0]\n" \
  OP " %[" a1 "].4s, " x0 "." X ", " w "." W "[1]\n" \
  OP " %[" a2 "].4s, " x0 "." X ", " w "." W "[2]\n" \
  OP " %[" a3 "].4s, " x0 "." X ", " w "." W "[3]\n"
#define MUL16_A(OP, X, W, w) \
  CALL(MUL16V, OP, X, W, "v0", w, G0) CALL(MUL16V, OP, X, W, "v1", w, G1) \
  CALL(MUL16V, OP, X, W, "v2", w, G2) CALL(MUL16V, OP, X, W, "v3", w, G3)
#define MUL16_B(OP, X, W, w) \
  CALL(MUL16V, OP, X, W, "v4", w, G0) CALL(MUL16V, OP, X, W, "v5", w, G1) \
  CALL(MUL16V, OP, X, W, "v6", w, G2) CALL(MUL16V, OP, X, W, "v7", w, G3)
#define TILE_CLOBBERS ROW_CLOBBERS, "v28", "v29", "v31"
#define LD_W "ld1 {v28.16b, v29.16b, v30.16b, v31.16b}, [%[val]], #64\n"

/* acc[16] += the entries [first, last) that four rows share (4X4 of int8, 4X1 of f32) times sixteen pixels. */
#define GS_TILE_4X4(acc, w, x_, first, last, OP, X, W) \
  do { \
    const char *from = (const char *)(x_), *values = (const char *)(w)->val + (size_t)(first) * 16; \
    const uint32_t *offsets = (w)->off + (first); \
    uint32_t steps = (last) - (first); \
    __asm__ volatile( \
        "subs %w[n], %w[n], #4\n" \
        "b.lo 2f\n" \
        "1:\n" \
        "ldp w9, w10, [%[off]], #16\n" LD_W \
        "ldp w11, w12, [%[off], #-8]\n" \
        "add x9, %[x], x9\n" LD_A "[x9]\n" \
        "add x10, %[x], x10\n" LD_B "[x10]\n" MUL16_A(OP, X, W, "v28") \
        "add x11, %[x], x11\n" LD_A "[x11]\n" MUL16_B(OP, X, W, "v29") \
        "add x12, %[x], x12\n" LD_B "[x12]\n" MUL16_A(OP, X, W, "v30") MUL16_B(OP, X, W, "v31") \
        "subs %w[n], %w[n], #4\n" \
        "b.hs 1b\n" \
        "2:\n" \
        "adds %w[n], %w[n], #4\n" \
        "b.eq 4f\n" \
        "3:\n" \
        "ldr w9, [%[off]], #4\n" \
        "ldr q28, [%[val]], #16\n" \
        "add x9, %[x], x9\n" LD_A "[x9]\n" MUL16_A(OP, X, W, "v28") \
        "subs %w[n], %w[n], #1\n" \
        "b.ne 3b\n" \
        "4:\n" \
        : ACC16(acc), [n] "+r"(steps), [off] "+r"(offsets), [val] "+r"(values) \
        : [x] "r"(from) \
        : TILE_CLOBBERS); \
  } while (0)

/* acc[16] += `groups` groups in order times sixteen pixels: the dense product of four rows. */
#define GS_TILE_DENSE(acc, val_, x_, x_stride, groups, OP, X, W) \
  do { \
    const char *from = (const char *)(x_), *values = (const char *)(val_); \
    uint32_t steps = (groups); \
    __asm__ volatile( \
        "subs %w[n], %w[n], #4\n" \
        "b.lo 2f\n" \
        "1:\n" LD_W LD_A "[%[x]], %[stride]\n" LD_B "[%[x]], %[stride]\n" MUL16_A(OP, X, W, "v28") \
        LD_A "[%[x]], %[stride]\n" MUL16_B(OP, X, W, "v29") LD_B "[%[x]], %[stride]\n" MUL16_A(OP, X, W, "v30") \
        MUL16_B(OP, X, W, "v31") \
        "subs %w[n], %w[n], #4\n" \
        "b.hs 1b\n" \
        "2:\n" \
        "adds %w[n], %w[n], #4\n" \
        "b.eq 4f\n" \
        "3:\n" \
        "ldr q28, [%[val]], #16\n" LD_A "[%[x]], %[stride]\n" MUL16_A(OP, X, W, "v28") \
        "subs %w[n], %w[n], #1\n" \
        "b.ne 3b\n" \
        "4:\n" \
        : ACC16(acc), [n] "+r"(steps), [x] "+r"(from), [val] "+r"(values) \
        : [stride] "r"(x_stride) \
        : TILE_CLOBBERS); \
  } while (0)
#endif
#endif
