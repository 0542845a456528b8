/* Inner loops of matrix products on aarch64, in assembly: 16 to 20 accumulators and four vectors a load (ld1) are what the
 * loops need, and compilers spill when they are given that many. Accumulators are v8-v27; ld4r sets four of them at once.
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
  OP " " a0 ".4s, " x0 "." X ", v30." W "[" lane "]\n" \
  OP " " a1 ".4s, " x1 "." X ", v30." W "[" lane "]\n" \
  OP " " a2 ".4s, " x2 "." X ", v30." W "[" lane "]\n" \
  OP " " a3 ".4s, " x3 "." X ", v30." W "[" lane "]\n"
#define MUL4_A(OP, X, W, a0, a1, a2, a3, lane) MUL4(OP, X, W, a0, a1, a2, a3, "v0", "v1", "v2", "v3", lane)
#define MUL4_B(OP, X, W, a0, a1, a2, a3, lane) MUL4(OP, X, W, a0, a1, a2, a3, "v4", "v5", "v6", "v7", lane)
#define G0 "v8", "v9", "v10", "v11"
#define G1 "v12", "v13", "v14", "v15"
#define G2 "v16", "v17", "v18", "v19"
#define G3 "v20", "v21", "v22", "v23"
#define G4 "v24", "v25", "v26", "v27"
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
#define SET1 "ld4r {v8.4s, v9.4s, v10.4s, v11.4s}, [%[bias]]\n"
#define SET2 SET1 "ld4r {v12.4s, v13.4s, v14.4s, v15.4s}, [%[bias]]\n"
#define SET3 SET2 "ld4r {v16.4s, v17.4s, v18.4s, v19.4s}, [%[bias]]\n"
#define SET4 SET3 "ld4r {v20.4s, v21.4s, v22.4s, v23.4s}, [%[bias]]\n"
#define SET5 SET4 "ld4r {v24.4s, v25.4s, v26.4s, v27.4s}, [%[bias]]\n"
#define ROW_LOOP(ENTRY, SET, OP, X, W) \
  SET "subs %w[n], %w[n], #4\n" \
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
/* The accumulators as variables, as operands, and to acc. */
#define REG(T, i, v) register T q##i __asm__("v" #v)
#define REGS4(T) REG(T, 0, 8); REG(T, 1, 9); REG(T, 2, 10); REG(T, 3, 11)
#define REGS8(T) \
  REGS4(T); REG(T, 4, 12); REG(T, 5, 13); REG(T, 6, 14); REG(T, 7, 15)
#define REGS12(T) \
  REGS8(T); REG(T, 8, 16); REG(T, 9, 17); REG(T, 10, 18); REG(T, 11, 19)
#define REGS16(T) \
  REGS12(T); REG(T, 12, 20); REG(T, 13, 21); REG(T, 14, 22); REG(T, 15, 23)
#define REGS20(T) \
  REGS16(T); REG(T, 16, 24); REG(T, 17, 25); REG(T, 18, 26); REG(T, 19, 27)
#define OUT4 "=&w"(q0), "=&w"(q1), "=&w"(q2), "=&w"(q3)
#define OUT8 OUT4, "=&w"(q4), "=&w"(q5), "=&w"(q6), "=&w"(q7)
#define OUT12 OUT8, "=&w"(q8), "=&w"(q9), "=&w"(q10), "=&w"(q11)
#define OUT16 OUT12, "=&w"(q12), "=&w"(q13), "=&w"(q14), "=&w"(q15)
#define OUT20 OUT16, "=&w"(q16), "=&w"(q17), "=&w"(q18), "=&w"(q19)
#define COPY4(a) ((a)[0] = q0, (a)[1] = q1, (a)[2] = q2, (a)[3] = q3)
#define COPY8(a) (COPY4(a), (a)[4] = q4, (a)[5] = q5, (a)[6] = q6, (a)[7] = q7)
#define COPY12(a) (COPY8(a), (a)[8] = q8, (a)[9] = q9, (a)[10] = q10, (a)[11] = q11)
#define COPY16(a) (COPY12(a), (a)[12] = q12, (a)[13] = q13, (a)[14] = q14, (a)[15] = q15)
#define COPY20(a) (COPY16(a), (a)[16] = q16, (a)[17] = q17, (a)[18] = q18, (a)[19] = q19)

#define ROW_ASM(acc, T, count, ENTRY, SET, OP, X, W) \
  do { \
    REGS##count(T); \
    __asm__ volatile(ROW_LOOP(ENTRY, SET, OP, X, W) \
                     : OUT##count, [n] "+r"(steps), [off] "+r"(offsets), [val] "+r"(values) \
                     : [x] "r"(from), [bias] "r"(start) \
                     : ROW_CLOBBERS); \
    (void)COPY##count(acc); \
  } while (0)

/* acc[0 .. 4*units) = a bias + the entries [first, last) of one row of 1X4 weights; x at the first pixel. T: the vector type of
 * acc; bias: four times the same word. */
#define GS_ROW_1X4(acc, T, units, bias_, w, x_, first, last, OP, X, W) \
  do { \
    const char *from = (const char *)(x_), *values = (const char *)(w)->val + (size_t)(first) * 4; \
    const uint32_t *offsets = (w)->off + (first); \
    const void *start = (bias_); \
    uint32_t steps = (last) - (first); \
    if ((units) == 1) ROW_ASM(acc, T, 4, ENTRY1, SET1, OP, X, W); \
    else if ((units) == 2) ROW_ASM(acc, T, 8, ENTRY2, SET2, OP, X, W); \
    else if ((units) == 3) ROW_ASM(acc, T, 12, ENTRY3, SET3, OP, X, W); \
    else if ((units) == 4) ROW_ASM(acc, T, 16, ENTRY4, SET4, OP, X, W); \
    else ROW_ASM(acc, T, 20, ENTRY5, SET5, OP, X, W); \
  } while (0)

/* Sixteen pixels in four vectors times four rows: acc[4*vector + row] += x * w[row]. */
#define MUL16V(OP, X, W, x0, w, a0, a1, a2, a3) \
  OP " " a0 ".4s, " x0 "." X ", " w "." W "[0]\n" \
  OP " " a1 ".4s, " x0 "." X ", " w "." W "[1]\n" \
  OP " " a2 ".4s, " x0 "." X ", " w "." W "[2]\n" \
  OP " " a3 ".4s, " x0 "." X ", " w "." W "[3]\n"
#define MUL16_A(OP, X, W, w) \
  CALL(MUL16V, OP, X, W, "v0", w, G0) CALL(MUL16V, OP, X, W, "v1", w, G1) \
  CALL(MUL16V, OP, X, W, "v2", w, G2) CALL(MUL16V, OP, X, W, "v3", w, G3)
#define MUL16_B(OP, X, W, w) \
  CALL(MUL16V, OP, X, W, "v4", w, G0) CALL(MUL16V, OP, X, W, "v5", w, G1) \
  CALL(MUL16V, OP, X, W, "v6", w, G2) CALL(MUL16V, OP, X, W, "v7", w, G3)
#define TILE_CLOBBERS ROW_CLOBBERS, "v28", "v29", "v31"
#define LD_W "ld1 {v28.16b, v29.16b, v30.16b, v31.16b}, [%[val]], #64\n"

/* acc[16] = the biases of four rows + the entries [first, last) that they share (4X4 of int8, 4X1 of f32) times sixteen pixels. */
#define GS_TILE_4X4(acc, T, bias_, w, x_, first, last, OP, X, W) \
  do { \
    REGS16(T); \
    const void *start = (bias_); \
    const char *from = (const char *)(x_), *values = (const char *)(w)->val + (size_t)(first) * 16; \
    const uint32_t *offsets = (w)->off + (first); \
    uint32_t steps = (last) - (first); \
    __asm__ volatile( \
        SET4 "subs %w[n], %w[n], #4\n" \
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
        : OUT16, [n] "+r"(steps), [off] "+r"(offsets), [val] "+r"(values) \
        : [x] "r"(from), [bias] "r"(start) \
        : TILE_CLOBBERS); \
    (void)COPY16(acc); \
  } while (0)

/* acc[16] = the biases of four rows + `groups` groups in order times sixteen pixels: the dense product of four rows. */
#define GS_TILE_DENSE(acc, T, bias_, val_, x_, x_stride, groups, OP, X, W) \
  do { \
    REGS16(T); \
    const void *start = (bias_); \
    const char *from = (const char *)(x_), *values = (const char *)(val_); \
    uint32_t steps = (groups); \
    __asm__ volatile( \
        SET4 "subs %w[n], %w[n], #4\n" \
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
        : OUT16, [n] "+r"(steps), [x] "+r"(from), [val] "+r"(values) \
        : [stride] "r"(x_stride), [bias] "r"(start) \
        : TILE_CLOBBERS); \
    (void)COPY16(acc); \
  } while (0)
#endif
#endif
