/* exp and log in double by range reduction and series; the rest from these two. */
#include "mathf.h"

#include <string.h>

static double from_bits(uint64_t bits) {
  double v;
  memcpy(&v, &bits, 8);
  return v;
}

static uint64_t to_bits(double v) {
  uint64_t bits;
  memcpy(&bits, &v, 8);
  return bits;
}

#define INF from_bits(0x7FF0000000000000ull)
#define NOT_A_NUMBER from_bits(0x7FF8000000000000ull)

/* exp(r) - 1 for |r| <= 0.35: Taylor to r^11, 4e-14 of r. */
static double expm1_series(double r) {
  static const double c[] = {1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320, 1.0 / 5040, 1.0 / 720,
                             1.0 / 120,      1.0 / 24,      1.0 / 6,      0.5,         1.0};
  double s = c[0];
  for (int i = 1; i < 11; i++) s = s * r + c[i];
  return r * s;
}

static double scale2(double v, int64_t k) { /* v * 2^k for results far from double's limits */
  return v * from_bits((uint64_t)(k + 1023) << 52);
}

static double exp_d(double x) {
  if (!(x < 700.0)) return x != x ? x : INF;
  if (x < -700.0) return 0.0;
  double k = (x * 1.4426950408889634 + 6755399441055744.0) - 6755399441055744.0;
  double r = (x - k * 0.693147180369123816490) - k * 1.90821492927058770002e-10; /* ln 2 in two parts */
  return scale2(1.0 + expm1_series(r), (int64_t)k);
}

/* 1e-15 for x a positive, normal double. */
static double log_d(double x) {
  uint64_t bits = to_bits(x);
  int64_t e = (int64_t)(bits >> 52) - 1023;
  double m = from_bits((bits & 0x000FFFFFFFFFFFFFull) | 0x3FF0000000000000ull);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    e++;
  }
  static const double c[] = {1.0 / 21, 1.0 / 19, 1.0 / 17, 1.0 / 15, 1.0 / 13, 1.0 / 11,
                             1.0 / 9,  1.0 / 7,  1.0 / 5,  1.0 / 3,  1.0};
  double s = (m - 1.0) / (m + 1.0), z = s * s, t = 0.0;
  for (int i = 0; i < 11; i++) t = t * z + c[i];
  return 2.0 * s * t + (double)e * 0.6931471805599453;
}

/* log(1 + t) for t in [0, 1]: small t keeps its digits. */
static double log1p_d(double t) {
  double s = t / (2.0 + t), z = s * s, sum = 0.0; /* s <= 1/3 */
  for (int i = 25; i >= 1; i -= 2) sum = sum * z + 1.0 / i;
  return 2.0 * s * sum;
}

/* Complementary error function for z >= 0: Chebyshev fit of Numerical Recipes, 1.2e-7. */
static double erfc_d(double z) {
  static const double c[] = {0.17087277,  -0.82215223, 1.48851587, -1.13520398, 0.27886807,
                             -0.18628806, 0.09678418,  0.37409196, 1.00002368,  -1.26551223};
  double t = 1.0 / (1.0 + 0.5 * z), p = c[0];
  for (int i = 1; i < 10; i++) p = p * t + c[i];
  return t * exp_d(p - z * z);
}

/* erf near 0: series to z^19, 1e-12 for |z| <= 0.5. */
static double erf_series(double z) {
  double z2 = z * z, term = z, sum = z;
  for (int i = 1; i < 10; i++) {
    term *= -z2 / i;
    sum += term / (2 * i + 1);
  }
  return sum * 1.1283791670955126;
}

float gs_expf(float x) { return (float)exp_d(x); }

float gs_logf(float x) {
  if (x != x || x < 0.0f) return (float)NOT_A_NUMBER;
  if (x == 0.0f) return (float)-INF;
  if (x > 3.4028235e38f) return x;
  return (float)log_d(x);
}

float gs_sqrtf(float x) {
  if (!(x > 0.0f) || x > 3.4028235e38f) return x < 0.0f ? (float)NOT_A_NUMBER : x;
  double d = x, y = from_bits((to_bits(d) >> 1) + (511ull << 52)); /* half the exponent: within 6% */
  for (int i = 0; i < 4; i++) y = 0.5 * (y + d / y);
  return (float)y;
}

float gs_tanhf(float x) {
  double a = x < 0 ? -(double)x : (double)x, e;
  if (a < 0.17) {
    e = expm1_series(2.0 * a);
  } else {
    e = exp_d(a > 30.0 ? 60.0 : 2.0 * a) - 1.0;
  }
  double t = e / (e + 2.0);
  return x != x ? x : (float)(x < 0 ? -t : t);
}

float gs_sigmoidf(float x) { return (float)(1.0 / (1.0 + exp_d(-(double)x))); }

float gs_erff(float x) {
  double a = x < 0 ? -(double)x : (double)x;
  if (a < 0.5) return (float)erf_series(x);
  double v = 1.0 - erfc_d(a);
  return x != x ? x : (float)(x < 0 ? -v : v);
}

float gs_geluf(float x) {
  double z = (double)x * 0.7071067811865476, a = z < 0 ? -z : z;
  if (x > 3.4028235e38f || x < -3.4028235e38f) return x > 0 ? x : 0.0f;
  if (a < 0.5) return (float)(0.5 * x * (1.0 + erf_series(z)));
  double tail = erfc_d(a);
  return (float)(0.5 * x * (z < 0 ? tail : 2.0 - tail));
}

float gs_softplusf(float x) {
  double a = x < 0 ? -(double)x : (double)x;
  return x != x ? x : (float)(log1p_d(exp_d(-a)) + (x > 0 ? x : 0.0));
}

float gs_floorf(float x) {
  if (!(x > -8388608.0f && x < 8388608.0f)) return x; /* whole already, infinite or NaN */
  float t = (float)(int32_t)x;
  if (t > x) t -= 1.0f;
  return t == 0.0f ? x * 0.0f : t; /* keeps the sign of zero */
}

float gs_ceilf(float x) { return -gs_floorf(-x); }

float gs_powf(float x, float y) {
  if (y == 0.0f || x == 1.0f) return 1.0f;
  if (x != x || y != y) return (float)NOT_A_NUMBER;
  float whole = gs_floorf(y);
  bool integer = whole == y;
  bool odd = integer && y > -16777216.0f && y < 16777216.0f && ((int64_t)y & 1);
  double a = x < 0 ? -(double)x : (double)x, r;
  if (y - y != 0.0f) r = a == 1.0 ? 1.0 : (a > 1.0) == (y > 0) ? INF : 0.0;
  else if (a == 0.0) r = y > 0 ? 0.0 : INF;
  else if (a > 3.4028235e38) r = y > 0 ? INF : 0.0;
  else if (x < 0 && !integer) return (float)NOT_A_NUMBER;
  else r = exp_d((double)y * log_d(a));
  bool negative = x < 0 || (x == 0.0f && 1.0f / x < 0);
  return (float)(negative && odd ? -r : r);
}
