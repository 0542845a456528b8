/* Four single int8 columns interleaved on the fly into groups of four lanes, in their matrix products. */
#ifndef GS_ARM_NEON_4X1_H
#define GS_ARM_NEON_4X1_H
#include "neon_mm.h"

#if defined(__aarch64__)
/* Vectors that turn the offsets of four columns into a table lookup: with the first four pixels of each column in one table of 64
 * bytes, byte 4*p + j of the result is byte 16*j + 4*p + (offset % 4) of the table. The lanes, their place, where columns start. */
static const uint8_t gs_columns[48] = {3, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12,
                                       0, 16, 32, 48, 4, 20, 36, 52, 8, 24, 40, 56, 12, 28, 44, 60};

/* Four offsets to the addresses of their columns. */
#define COLUMNS(a, b, c, d) \
  "ldp w" #a ", w" #b ", [%[off]], #16\n" \
  "ldp w" #c ", w" #d ", [%[off], #-8]\n" \
  "and x" #a ", x" #a ", #-4\n" \
  "and x" #b ", x" #b ", #-4\n" \
  "and x" #c ", x" #c ", #-4\n" \
  "and x" #d ", x" #d ", #-4\n" \
  "add x" #a ", %[x], x" #a "\n" \
  "add x" #b ", %[x], x" #b "\n" \
  "add x" #c ", %[x], x" #c "\n" \
  "add x" #d ", %[x], x" #d "\n"
/* Four pixels of them, at byte `at`, interleaved to `to` by `index`; the table in t0 and the three registers behind it. */
#define TAKE(to, at, t0, t1, t2, t3, a, b, c, d, index) \
  "ldr q" #t0 ", [x" #a ", #" #at "]\n" \
  "ldr q" #t1 ", [x" #b ", #" #at "]\n" \
  "ldr q" #t2 ", [x" #c ", #" #at "]\n" \
  "ldr q" #t3 ", [x" #d ", #" #at "]\n" \
  "tbl v" #to ".16b, {v" #t0 ".16b, v" #t1 ".16b, v" #t2 ".16b, v" #t3 ".16b}, v" #index ".16b\n"
#define INDEX(index, lanes, turn, starts) \
  "and v" #index ".16b, v" #index ".16b, " lanes ".16b\n" \
  "tbl v" #index ".16b, {v" #index ".16b}, " turn ".16b\n" \
  "add v" #index ".16b, v" #index ".16b, " starts ".16b\n"
#define XREGS "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16"

/* acc[16] = the biases of four rows + the entries [first, last) of 4X1 weights times sixteen pixels, by sdot. */
#define GS_TILE_4X1_DOT(acc, bias_, w, x_, first, last) \
  do { \
    REGS16(int32x4_t); \
    const void *start = (bias_); \
    const char *from = (const char *)(x_), *values = (const char *)(w)->val + (size_t)(first) * 4; \
    const uint32_t *offsets = (w)->off + (first); \
    uint32_t steps = (last) - (first); \
    const uint8x16_t lanes = vld1q_u8(gs_columns), turn = vld1q_u8(gs_columns + 16), starts = vld1q_u8(gs_columns + 32); \
    __asm__ volatile( \
        SET4 "cbz %w[n], 2f\n" \
        "1:\n" \
        "ldr q28, [%[off]]\n" COLUMNS(9, 10, 11, 12) \
        "ldr q30, [%[val]], #16\n" INDEX(28, "%[lanes]", "%[turn]", "%[starts]") \
        TAKE(24, 0, 0, 1, 2, 3, 9, 10, 11, 12, 28) TAKE(25, 16, 4, 5, 6, 7, 9, 10, 11, 12, 28) \
        CALL(MUL16V, "sdot", "16b", "4b", "v24", "v30", G0) \
        TAKE(24, 32, 0, 1, 2, 3, 9, 10, 11, 12, 28) \
        CALL(MUL16V, "sdot", "16b", "4b", "v25", "v30", G1) \
        TAKE(25, 48, 4, 5, 6, 7, 9, 10, 11, 12, 28) \
        CALL(MUL16V, "sdot", "16b", "4b", "v24", "v30", G2) \
        CALL(MUL16V, "sdot", "16b", "4b", "v25", "v30", G3) \
        "subs %w[n], %w[n], #4\n" \
        "b.ne 1b\n" \
        "2:\n" \
        : OUT16, [n] "+r"(steps), [off] "+r"(offsets), [val] "+r"(values) \
        : [x] "r"(from), [bias] "r"(start), [lanes] "w"(lanes), [turn] "w"(turn), [starts] "w"(starts) \
        : ROW_CLOBBERS, "v24", "v25", "v28"); \
    (void)COPY16(acc); \
  } while (0)

/* acc[4*row + 0..3] = biases + the entries [first, last) times eight pixels, by smull, smlal and sadalp: two groups a step. */
#define GS_MLAL_TILE_4X1(acc, biases, w, x_, first, last) \
  do { \
    REGS16(int32x4_t); \
    const void *start = (biases); \
    const char *from = (const char *)(x_), *values = (const char *)(w)->val + (size_t)(first) * 4; \
    const uint32_t *offsets = (w)->off + (first); \
    uint32_t steps = (last) - (first); \
    __asm__ volatile( \
        SETS_ROWS \
        "subs %w[n], %w[n], #8\n" \
        "b.lo 2f\n" \
        "1:\n" \
        "ld1 {v4.16b, v5.16b, v6.16b}, [%[table]]\n" \
        "ldp q28, q29, [%[off]]\n" COLUMNS(9, 10, 11, 12) COLUMNS(13, 14, 15, 16) \
        INDEX(28, "v4", "v5", "v6") INDEX(29, "v4", "v5", "v6") \
        TAKE(0, 0, 24, 25, 26, 27, 9, 10, 11, 12, 28) TAKE(1, 16, 24, 25, 26, 27, 9, 10, 11, 12, 28) \
        TAKE(2, 0, 24, 25, 26, 27, 13, 14, 15, 16, 29) TAKE(3, 16, 24, 25, 26, 27, 13, 14, 15, 16, 29) \
        LD_W0 LD_W1 PAIR_ROWS \
        "subs %w[n], %w[n], #8\n" \
        "b.hs 1b\n" \
        "2:\n" \
        "tbz %w[n], #2, 4f\n" \
        "ld1 {v4.16b, v5.16b, v6.16b}, [%[table]]\n" \
        "ldr q28, [%[off]]\n" COLUMNS(9, 10, 11, 12) INDEX(28, "v4", "v5", "v6") \
        TAKE(0, 0, 24, 25, 26, 27, 9, 10, 11, 12, 28) TAKE(1, 16, 24, 25, 26, 27, 9, 10, 11, 12, 28) \
        LD_W0 LAST_ROWS \
        "4:\n" \
        : OUT16, [bias] "+r"(start), [n] "+r"(steps), [off] "+r"(offsets), [val] "+r"(values) \
        : [x] "r"(from), [table] "r"(gs_columns) \
        : MLAL_TILE_CLOBBERS, XREGS); \
    (void)COPY16(acc); \
  } while (0)
#else

/* Four pixels of four columns, byte lanes off % 4 of their groups, interleaved to four lanes. */
GS_INLINE int8x16_t gs_gathern(const int8_t *x, const uint32_t *off) {
  uint32x4_t px[4];
  GS_UNROLL for (int j = 0; j < 4; j++)
    px[j] = vshlq_u32(vreinterpretq_u32_s8(vld1q_s8(x + (off[j] & ~3u))), vdupq_n_s32(-8 * (int32_t)(off[j] & 3u)));
  return vreinterpretq_s8_u32(vsliq_n_u32(vsliq_n_u32(vsliq_n_u32(px[0], px[1], 8), px[2], 16), px[3], 24));
}
#endif
#endif
