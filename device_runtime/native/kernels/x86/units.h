/* How kernels that keep many pixels in registers cut a call into passes. */
#ifndef GS_X86_UNITS_H
#define GS_X86_UNITS_H
#include <stdint.h>

/* Units of 16 pixels of the next pass: four at a time, and no pass of one unit but the only one; 13 become 4, 4 and 5. */
static inline uint32_t gs_pixel_units(uint32_t left) { return left <= 5 ? left : left < 8 ? (left + 1) / 2 : 4; }
#endif
