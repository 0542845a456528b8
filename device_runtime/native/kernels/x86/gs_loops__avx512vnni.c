/* The plain loops for AVX-512, and windows by masked loads, which touch nothing where the mask is clear. */
#include "../loops.h"
#include "avx512.h"

GS_TARGET static void window(const gs_word *x, size_t x_plane, uint32_t planes, size_t n, const uint16_t *inside, gs_word pad,
                             gs_word flip, gs_word *y, size_t y_plane) {
  const __m512i outside = _mm512_set1_epi32((int32_t)pad), mask = _mm512_set1_epi32((int32_t)flip);
  for (uint32_t p = 0; p < planes; p++, x += x_plane, y += y_plane)
    for (size_t i = 0; i < n; i += 16)
      _mm512_storeu_si512(y + i, _mm512_xor_si512(_mm512_mask_loadu_epi32(outside, inside[i / 16], x + i), mask));
}

GS_LOOPS(gs_loops__avx512vnni, GS_ISA_AVX512VNNI, window)
