/* Elementary functions of our own, so that f32 is the same on every target and WASM needs no C library. Computed in double
 * and rounded once. Stated errors are relative to the exact result, checked by tests/native/test_ops_math.py. */
#ifndef GS_MATHF_H
#define GS_MATHF_H
#include <stdbool.h>
#include <stdint.h>

float gs_expf(float x);           /* 1e-7; overflows to +inf, underflows to 0 */
float gs_logf(float x);           /* 1e-7; -inf at 0, NaN below */
float gs_sqrtf(float x);          /* 1e-7; NaN below 0 */
float gs_tanhf(float x);          /* 2e-7 */
float gs_sigmoidf(float x);       /* 2e-7 */
float gs_erff(float x);           /* 3e-7 */
float gs_geluf(float x);          /* 4e-7: x * Phi(x), in the negative tail too */
float gs_softplusf(float x);      /* 2e-7: log(1 + exp(x)) */
float gs_powf(float x, float y);  /* 2e-7; the special cases of C99 */
float gs_floorf(float x);         /* exact */
float gs_ceilf(float x);          /* exact */
#endif
