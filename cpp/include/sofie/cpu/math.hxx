// Elementary functions for float, vectors of floats (f32v) and double.
//
// The float versions are branch-free polynomials, the same template for a scalar and for a vector, so that a
// lane and a scalar give the same bits. Coefficients are minimax fits (Lawson's algorithm) made for this
// file. Double goes to the standard library. Errors quoted are the largest found by
// cpp/tests/math_accuracy.cpp over every 97th float, with and without fused multiply-add.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "simd.hxx"
#include "simd_integer.hxx"

namespace sofie {
inline namespace SOFIE_ISA {

namespace detail {
/// V if it is float or f32v: what the templates below accept.
template <class V>
using Lane = std::enable_if_t<std::is_same<V, float>::value || is_vector<V>, V>;
/// T if it is an integer type.
template <class T>
using Integer = std::enable_if_t<std::is_integral<T>::value, T>;

template <class F>
SOFIE_INLINE inline float per_lane(float x, F f) {
  return f(x);
}
template <class F>
SOFIE_INLINE inline f32v per_lane(f32v x, F f) {
  float v[kLanes];
  store(v, Full{0}, x);
  for (float& e : v) e = f(e);
  return load(v, Full{0});
}
SOFIE_INLINE inline std::int32_t as_signed(std::uint32_t u) { return static_cast<std::int32_t>(u); }
SOFIE_INLINE inline i32v as_signed(u32v u) { return (i32v)u; }
SOFIE_INLINE inline float to_float(std::int32_t i) { return static_cast<float>(i); }
SOFIE_INLINE inline f32v to_float(i32v i) { return __builtin_convertvector(i, f32v); }
SOFIE_INLINE inline bool any(bool b) { return b; }
SOFIE_INLINE inline bool any(i32v m) {
#if defined(SOFIE_ISA_AVX512)
  return _mm512_test_epi32_mask((__m512i)m, (__m512i)m) != 0;
#elif defined(SOFIE_ISA_AVX2)
  return _mm256_movemask_ps((__m256)m) != 0;
#elif defined(__SSE2__)
  return _mm_movemask_ps((__m128)m) != 0;
#else
  std::int32_t a = 0;
  for (std::size_t l = 0; l < kLanes; ++l) a |= m[l];
  return a != 0;
#endif
}
}  // namespace detail

// ---------------------------------------------------------------------------------------------------------
// Exact functions
// ---------------------------------------------------------------------------------------------------------

template <class V>
SOFIE_INLINE inline detail::Lane<V> abs(V x) {
  return from_bits(to_bits(x) & 0x7fffffffu);
}
SOFIE_INLINE inline double abs(double x) { return std::fabs(x); }
template <class T>
SOFIE_INLINE inline detail::Integer<T> abs(T x) {
  // The most negative value maps to itself, as in numpy.
  return x < T(0) ? static_cast<T>(0 - static_cast<std::make_unsigned_t<T>>(x)) : x;
}

template <class V>
SOFIE_INLINE inline detail::Lane<V> neg(V x) {
  return -x;
}
SOFIE_INLINE inline double neg(double x) { return -x; }
template <class T>
SOFIE_INLINE inline detail::Integer<T> neg(T x) {
  return static_cast<T>(0 - static_cast<std::make_unsigned_t<T>>(x));
}

/// The magnitude of x with the sign of s.
template <class V>
SOFIE_INLINE inline detail::Lane<V> copysign(V x, V s) {
  return from_bits((to_bits(x) & 0x7fffffffu) | (to_bits(s) & 0x80000000u));
}
SOFIE_INLINE inline double copysign(double x, double s) { return std::copysign(x, s); }

template <class V>
SOFIE_INLINE inline auto isnan(V x) {
  return x != x;
}
template <class V>
SOFIE_INLINE inline auto isinf(V x) {
  return abs(x) == std::numeric_limits<float>::infinity();
}
SOFIE_INLINE inline bool isinf(double x) { return std::isinf(x); }

/// -1, 0 or 1; NaN for NaN.
template <class V>
SOFIE_INLINE inline detail::Lane<V> sign(V x) {
  return select(x > 0.f, 1.f, select(x < 0.f, -1.f, x));
}
SOFIE_INLINE inline double sign(double x) { return x > 0. ? 1. : x < 0. ? -1. : x; }
template <class T>
SOFIE_INLINE inline detail::Integer<T> sign(T x) {
  return static_cast<T>(static_cast<int>(x > T(0)) - static_cast<int>(x < T(0)));
}

/// Nearest integer, ties to even (ONNX Round).
SOFIE_INLINE inline float round(float x) { return std::nearbyint(x); }
SOFIE_INLINE inline double round(double x) { return std::nearbyint(x); }
SOFIE_INLINE inline f32v round(f32v x) {
  SOFIE_PRECISE
#if defined(SOFIE_ISA_AVX512)
  return (f32v)_mm512_maskz_roundscale_ps(0xffff, (__m512)x, 0x08);
#elif defined(SOFIE_ISA_AVX2)
  return (f32v)_mm256_round_ps((__m256)x, 0x08);
#else
  // Adding 2^23 leaves no bits for a fraction.
  const f32v a = abs(x), r = copysign(detail::opaque(a + 8388608.f) - 8388608.f, x);
  return (a < 8388608.f) ? r : x;
#endif
}
SOFIE_INLINE inline float floor(float x) { return std::floor(x); }
SOFIE_INLINE inline double floor(double x) { return std::floor(x); }
SOFIE_INLINE inline f32v floor(f32v x) {
#if defined(SOFIE_ISA_AVX512)
  return (f32v)_mm512_maskz_roundscale_ps(0xffff, (__m512)x, 0x09);
#elif defined(SOFIE_ISA_AVX2)
  return (f32v)_mm256_round_ps((__m256)x, 0x09);
#else
  const f32v r = round(x);
  return copysign(r - select(r > x, 1.f, 0.f), x);
#endif
}
SOFIE_INLINE inline float ceil(float x) { return std::ceil(x); }
SOFIE_INLINE inline double ceil(double x) { return std::ceil(x); }
SOFIE_INLINE inline f32v ceil(f32v x) {
#if defined(SOFIE_ISA_AVX512)
  return (f32v)_mm512_maskz_roundscale_ps(0xffff, (__m512)x, 0x0a);
#elif defined(SOFIE_ISA_AVX2)
  return (f32v)_mm256_round_ps((__m256)x, 0x0a);
#else
  const f32v r = round(x);
  return copysign(r + select(r < x, 1.f, 0.f), x);
#endif
}
SOFIE_INLINE inline float trunc(float x) { return std::trunc(x); }
SOFIE_INLINE inline double trunc(double x) { return std::trunc(x); }
SOFIE_INLINE inline f32v trunc(f32v x) { return copysign(floor(abs(x)), x); }

template <class T>
SOFIE_INLINE inline detail::Integer<T> round(T x) {
  return x;
}
template <class T>
SOFIE_INLINE inline detail::Integer<T> floor(T x) {
  return x;
}
template <class T>
SOFIE_INLINE inline detail::Integer<T> ceil(T x) {
  return x;
}

/// Correctly rounded by IEEE 754.
SOFIE_INLINE inline float sqrt(float x) {
  SOFIE_PRECISE
#if defined(SOFIE_SPELL_DIVISION) && defined(__AVX__)
  asm("vsqrtss %0, %0, %0" : "+" SOFIE_FLOAT_REGISTER(x));
  return x;
#elif defined(SOFIE_SPELL_DIVISION)
  asm("sqrtss %0, %0" : "+x"(x));
  return x;
#else
  return __builtin_sqrtf(x);
#endif
}
SOFIE_INLINE inline double sqrt(double x) { return std::sqrt(x); }
SOFIE_INLINE inline f32v sqrt(f32v x) {
  // Not the intrinsics, which -ffast-math takes for less than they say.
#if defined(__AVX__)
  asm("vsqrtps %0, %0" : "+" SOFIE_FLOAT_REGISTER(x));
  return x;
#elif defined(__SSE2__)
  asm("sqrtps %0, %0" : "+x"(x));
  return x;
#else
  return detail::per_lane(x, [](float e) { return sqrt(e); });
#endif
}
template <class V>
SOFIE_INLINE inline V rsqrt(V x) {
  return divide(V{} + 1.f, sqrt(x));
}
template <class V>
SOFIE_INLINE inline V reciprocal(V x) {
  return divide(V{} + 1.f, x);
}
template <class V>
SOFIE_INLINE inline V relu(V x) {
  if constexpr (is_vector<V>) {
    return max(x, 0.f);
  } else {
    return max(x, V(0));
  }
}

// ---------------------------------------------------------------------------------------------------------
// Exponential family
// ---------------------------------------------------------------------------------------------------------

namespace detail {
// p * 2^n for an integral n in [-250, 250], in two steps so that both powers are ordinary numbers and only
// the last product rounds. `bits` is n as it comes out of split_exp.
template <class V, class U>
SOFIE_INLINE inline V scale(V p, V n, U bits) {
  SOFIE_PRECISE
#if defined(SOFIE_ISA_AVX512)
  if constexpr (is_vector<V>) {
    static_cast<void>(bits);
    return (f32v)_mm512_maskz_scalef_ps(0xffff, (__m512)p, (__m512)n);
  } else
#endif
  {
    static_cast<void>(n);
    const auto half = as_signed(bits) >> 1;
    const U lower = (U)half, upper = bits - lower;
    return opaque(p * from_bits((lower + 127u) << 23)) * from_bits((upper + 127u) << 23);
  }
}

// x = n ln 2 + r with |r| <= ln 2 / 2. Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits.
// The high part of ln 2 has so few bits that its product with n is exact: W. J. Cody and W. Waite, "Software
// Manual for the Elementary Functions" (1980).
template <class V>
SOFIE_INLINE inline V split_exp(V x, V& n, decltype(to_bits(V{}))& bits) {
  SOFIE_PRECISE
  constexpr float kMagic = 12582912.f;
  const V t = opaque(fma(x, 1.44269504f, kMagic));
  n = opaque(t - kMagic);
  bits = to_bits(t) - 0x4b400000u;
  return fma(n, 2.12194440e-4f, opaque(fma(n, -0.693359375f, x)));
}

// (e^r - 1 - r) / r^2 on |r| <= ln 2 / 2.
template <class V>
SOFIE_INLINE inline V exp_tail(V r) {
  V q = fma(r, 0.000197395537f, 0.00139350968f);
  q = fma(q, r, 0.00833357126f);
  q = fma(q, r, 0.041666463f);
  q = fma(q, r, 0.166666657f);
  return fma(q, r, 0.5f);
}
// NaN stays.
template <class V>
SOFIE_INLINE inline V at_least(V x, float low) {
  if constexpr (is_vector<V>) {
    return raw_max(broadcast(low), x);
  } else {
    return x < low ? low : x;
  }
}
template <class V>
SOFIE_INLINE inline V at_most(V x, float high) {
  if constexpr (is_vector<V>) {
    return raw_min(broadcast(high), x);
  } else {
    return x > high ? high : x;
  }
}
template <class V>
SOFIE_INLINE inline V clamp(V x, float low, float high) {
  return at_least(at_most(x, high), low);
}

// e^x for x <= 89.
template <class V>
SOFIE_INLINE inline V exp_below(V x) {
  SOFIE_PRECISE
  V n;
  decltype(to_bits(x)) bits;
  const V r = split_exp(at_least(x, -104.f), n, bits);
  return scale(opaque(fma(r * r, exp_tail(r), r)) + 1.f, n, bits);
}
// (e^x - 1) / 2 for -18 <= x <= 89; the half so that e^x may be larger than the largest float.
template <class V>
SOFIE_INLINE inline V half_expm1(V x) {
  SOFIE_PRECISE
  V n;
  decltype(to_bits(x)) bits;
  const V r = split_exp(x, n, bits);
  const V p = fma(r * r, exp_tail(r), r);
  const V half = from_bits((bits + 126u) << 23);
  return fma(half, p, opaque(half - 0.5f));
}
}  // namespace detail

/// e^x. Error below 0.98 ulp. Results below the smallest normal number are rounded to denormals, not flushed.
template <class V>
SOFIE_INLINE inline detail::Lane<V> exp(V x) {
  return detail::exp_below(detail::at_most(x, 89.f));
}
SOFIE_INLINE inline double exp(double x) { return std::exp(x); }

/// 2^x. Error below 0.99 ulp.
template <class V>
SOFIE_INLINE inline detail::Lane<V> exp2(V x) {
  SOFIE_PRECISE
  constexpr float kMagic = 12582912.f;
  const V c = detail::clamp(x, -150.f, 129.f);
  const V t = detail::opaque(c + kMagic), n = detail::opaque(t - kMagic);
  const V f = c - n, r = f * 0.693147182f;
  // ln 2 rounded to float is wrong by 1.9e-9 of itself, far below half a unit of 1 + r.
  return detail::scale(detail::opaque(fma(r * r, detail::exp_tail(r), r)) + 1.f, n, to_bits(t) - 0x4b400000u);
}
SOFIE_INLINE inline double exp2(double x) { return std::exp2(x); }

/// e^x - 1 without cancellation near 0. Error below 1.42 ulp.
template <class V>
SOFIE_INLINE inline detail::Lane<V> expm1(V x) {
  return 2.f * detail::half_expm1(detail::clamp(x, -18.f, 89.f));
}
SOFIE_INLINE inline double expm1(double x) { return std::expm1(x); }

/// Natural logarithm; -inf at 0, NaN below. Error below 0.81 ulp. Denormals are handled.
template <class V>
SOFIE_INLINE inline detail::Lane<V> log(V x) {
  const auto tiny = x < std::numeric_limits<float>::min();
  const V y = select(tiny, x * 8388608.f, x);
  // y = 2^e (1 + f) with 1 + f between sqrt(1/2) and sqrt(2).
  const auto u = to_bits(y) - 0x3f3504f3u;
  const auto k = detail::as_signed(u) >> 23;
  const V e = detail::to_float(k) - select(tiny, 23.f, 0.f);
  const V f = from_bits((u & 0x007fffffu) + 0x3f3504f3u) - 1.f;
  V q = fma(f, -0.0763575062f, 0.127618611f);
  q = fma(q, f, -0.131596833f);
  q = fma(q, f, 0.142016277f);
  q = fma(q, f, -0.166234076f);
  q = fma(q, f, 0.200012401f);
  q = fma(q, f, -0.250008196f);
  q = fma(q, f, 0.333333313f);
  const V s = f * f;
  V r = fma(e, -2.12194440e-4f, s * f * q);
  r = fma(s, -0.5f, r);
  r = fma(e, 0.693359375f, f + r);
  const float inf = infinity<float>();
  r = select(x == 0.f, -inf, select(x < 0.f, quiet_nan<float>(), r));
  return select(x < inf, r, x);  // +inf and NaN are their own logarithms
}
SOFIE_INLINE inline double log(double x) { return std::log(x); }

/// log(1 + x), accurate near 0. Error below 1.44 ulp. W. Kahan's correction for the rounding of 1 + x.
template <class V>
SOFIE_INLINE inline detail::Lane<V> log1p(V x) {
  SOFIE_PRECISE
  const V u = detail::opaque(x + 1.f), l = log(u);
  const V c = select(x > 1.f, 1.f - detail::opaque(u - x), x - detail::opaque(u - 1.f));
  return select(logical_and(u > 0.f, u < infinity<float>()), l + divide(c, u), l);
}
SOFIE_INLINE inline double log1p(double x) { return std::log1p(x); }

/// Hyperbolic tangent, from e^(2|x|) - 1. Error below 2.4 ulp.
template <class V>
SOFIE_INLINE inline detail::Lane<V> tanh(V x) {
  // tanh(9.1) rounds to 1.
  const V a = detail::at_most(abs(x), 10.f);
  const V f = detail::half_expm1(a + a);
  return copysign(divide(f, f + 1.f), x);
}
SOFIE_INLINE inline double tanh(double x) { return std::tanh(x); }

/// 1 / (1 + e^-x). Error below 2.3 ulp. From e^-|x|: no overflow, and denormal where the result is.
template <class V>
SOFIE_INLINE inline detail::Lane<V> sigmoid(V x) {
  const V e = detail::exp_below(-abs(x));
  return divide(select(x < 0.f, e, 1.f), e + 1.f);
}
SOFIE_INLINE inline double sigmoid(double x) {
  const double e = std::exp(-std::fabs(x));
  return (x < 0. ? e : 1.) / (1. + e);
}

/// Error function. Error below 1.11 ulp. x + x p(x^2) near 0, 1 - exp(-t - t q(t)) with t = |x| beyond.
template <class V>
SOFIE_INLINE inline detail::Lane<V> erf(V x) {
  SOFIE_PRECISE
  const V s = x * x;
  V p = fma(s, -0.000595957856f, 0.00498735206f);
  p = fma(p, s, -0.0267629661f);
  p = fma(p, s, 0.11281731f);
  p = fma(p, s, -0.376124889f);
  p = fma(p, s, 0.128379151f);
  p = fma(p, x, detail::opaque(x));
  const V t = detail::clamp(abs(x), 0.f, 4.f);
  V q = fma(t, -0.000213991167f, 0.00321499095f);
  q = fma(q, t, -0.0228900388f);
  q = fma(q, t, 0.105261914f);
  q = fma(q, t, 0.635718286f);
  q = fma(q, t, 0.128514364f);
  q = 1.f - exp(-fma(q, t, t));
  return select(abs(x) < 0.925f, p, copysign(q, x));
}
SOFIE_INLINE inline double erf(double x) { return std::erf(x); }

/// 1 + erf(x) = erfc(-x), as accurate as that sum of floats: error below 1.5e-7. For Gelu. With t = |x|,
/// erfc(t) = 2^(-t p(t)); p is fitted such that the error of erfc, not of p, is least. The polynomials are
/// evaluated by pairs (G. Estrin): what waits for a result keeps others out of the processor's queues.
template <class V>
SOFIE_INLINE inline detail::Lane<V> one_plus_erf(V x) {
  SOFIE_PRECISE
  // Beyond 4, where the fit ends, the exponent falls faster than it should; at 7.5 the power is 0.
  const V t = detail::at_most(abs(x), 7.5f), t2 = t * t;
  V p = fma(t2, fma(t, 4.53608773e-05f, -0.000445523823f), fma(t, 0.00148948666f, 0.000774567074f));
  p = fma(t2, p, fma(t, -0.0282536354f, 0.148481593f));
  p = fma(t2, p, fma(t, 0.918416381f, 1.62790859f));
  constexpr float kMagic = 12582912.f;
  const V y = -t * p, u = detail::opaque(y + kMagic);
  const V n = detail::opaque(u - kMagic), f = y - n, f2 = f * f;
  V q = fma(f2, fma(f, 0.000153533707f, 0.00133988773f), fma(f, 0.00961843692f, 0.0555033237f));
  q = fma(f2, q, fma(f, 0.240226477f, 0.693147182f));
  const V e = detail::scale(fma(f, q, 1.f), n, to_bits(u) - 0x4b400000u);
  return select(x < 0.f, e, 2.f - e);
}
SOFIE_INLINE inline double one_plus_erf(double x) { return std::erfc(-x); }

/// The cumulative distribution of the standard normal distribution, (1 + erf(x / sqrt(2))) / 2. Float: error
/// below 1e-7. Double: below 1 ulp, also where it is small; there an error of x / sqrt(2) would grow by
/// x^2, so that this is computed in long double.
template <class V>
SOFIE_INLINE inline detail::Lane<V> normal_cdf(V x) {
  return one_plus_erf(x * 0.707106781f) * 0.5f;
}
SOFIE_INLINE inline double normal_cdf(double x) {
  constexpr long double root = 0.707106781186547524400844362104849039L;
  return static_cast<double>(0.5L * std::erfc(static_cast<long double>(x) * -root));
}

/// log(1 + e^x), never overflowing. Error below 2.1 ulp.
template <class V>
SOFIE_INLINE inline V softplus(V x) {
  if constexpr (std::is_same<V, double>::value) {
    return max(x, 0.) + std::log1p(std::exp(-std::fabs(x)));
  } else {
    return max(x, 0.f) + log1p(exp(-abs(x)));
  }
}
template <class V>
SOFIE_INLINE inline V softsign(V x) {
  if constexpr (std::is_same<V, double>::value) {
    return x / (1. + std::fabs(x));
  } else {
    return divide(x, abs(x) + 1.f);
  }
}

// ---------------------------------------------------------------------------------------------------------
// Trigonometric and hyperbolic functions
// ---------------------------------------------------------------------------------------------------------

namespace detail {
constexpr float kTrigRange = 1024.f;

// sin(x + quadrant pi/2) for |x| <= kTrigRange. The parts of pi/2 have so few bits that all products with n
// but the last are exact (Cody and Waite).
template <class V>
SOFIE_INLINE inline V sin_reduced(V x, std::uint32_t quadrant) {
  SOFIE_PRECISE
  constexpr float kMagic = 12582912.f;
  const V t = opaque(fma(x, 0.636619772f, kMagic));
  const V n = opaque(t - kMagic);
  V r = opaque(fma(n, -1.5703125f, x));
  r = opaque(fma(n, -4.837512969970703125e-4f, r));
  r = opaque(fma(n, -7.549533620476722717285156e-8f, r));
  r = fma(n, -2.563344068257089602980159e-12f, r);
  const auto k = to_bits(t) + quadrant;
  const V s = r * r;
  V a = fma(s, -0.000195180997f, 0.00833218824f);
  a = fma(a, s, -0.166666552f);
  a = fma(s * r, a, r);
  V b = fma(s, 2.44325529e-05f, -0.00138873106f);
  b = fma(b, s, 0.0416666456f);
  b = fma(b, s * s, fma(s, -0.5f, 1.f));
  const V v = select((k & 1u) == 0u, a, b);
  return from_bits(to_bits(v) ^ ((k & 2u) << 30));
}
}  // namespace detail

/// Sine. Error below 1.6 ulp; the library's beyond |x| = 1024.
template <class V>
SOFIE_INLINE inline detail::Lane<V> sin(V x) {
  if (detail::any(logical_not(abs(x) <= detail::kTrigRange))) {
    return detail::per_lane(
        x, [](float e) { return abs(e) <= detail::kTrigRange ? detail::sin_reduced(e, 0u) : std::sin(e); });
  }
  return detail::sin_reduced(x, 0u);
}
SOFIE_INLINE inline double sin(double x) { return std::sin(x); }

/// Cosine. Error below 2 ulp; the library's beyond |x| = 1024.
template <class V>
SOFIE_INLINE inline detail::Lane<V> cos(V x) {
  if (detail::any(logical_not(abs(x) <= detail::kTrigRange))) {
    return detail::per_lane(
        x, [](float e) { return abs(e) <= detail::kTrigRange ? detail::sin_reduced(e, 1u) : std::cos(e); });
  }
  return detail::sin_reduced(x, 1u);
}
SOFIE_INLINE inline double cos(double x) { return std::cos(x); }

#define SOFIE_BY_LANE(name)                                           \
  template <class V>                                                  \
  SOFIE_INLINE inline detail::Lane<V> name(V x) {                     \
    return detail::per_lane(x, [](float e) { return std::name(e); }); \
  }                                                                   \
  SOFIE_INLINE inline double name(double x) { return std::name(x); }
/// These call the standard library lane by lane.
SOFIE_BY_LANE(tan)
SOFIE_BY_LANE(asin)
SOFIE_BY_LANE(acos)
SOFIE_BY_LANE(atan)
SOFIE_BY_LANE(sinh)
SOFIE_BY_LANE(cosh)
SOFIE_BY_LANE(asinh)
SOFIE_BY_LANE(acosh)
SOFIE_BY_LANE(atanh)
#undef SOFIE_BY_LANE

// ---------------------------------------------------------------------------------------------------------
// Two arguments
// ---------------------------------------------------------------------------------------------------------

namespace detail {
SOFIE_INLINE inline float pow_scalar(float x, float y) {
  // Exact shortcuts for the exponents that models use; everything else is the library's.
  if (y == 2.f) return x * x;
  if (y == 1.f) return x;
  if (y == 0.5f && x > 0.f) return std::sqrt(x);
  return std::pow(x, y);
}
}  // namespace detail

/// x^y. Integers: by squaring, wrapping on overflow; negative exponents truncate the exact result towards 0.
template <class A, class B>
SOFIE_INLINE inline auto pow(A x, B y) {
  if constexpr (is_vector<A> || is_vector<B>) {
    if constexpr (!is_vector<B>) {
      if (y == 2.f) return x * x;
    }
    float a[kLanes], b[kLanes];
    store(a, Full{0}, broadcast(x));
    store(b, Full{0}, broadcast(y));
    for (std::size_t l = 0; l < kLanes; ++l) a[l] = detail::pow_scalar(a[l], b[l]);
    return load(a, Full{0});
  } else if constexpr (std::is_same<A, float>::value) {
    // ONNX: the type of the base is the type of the result.
    return detail::pow_scalar(x, static_cast<float>(y));
  } else if constexpr (std::is_integral<A>::value && std::is_integral<B>::value) {
    if (y < B(0)) return static_cast<A>(x == A(1) ? 1 : x == A(-1) ? (y % B(2) != B(0) ? -1 : 1) : 0);
    using U = std::conditional_t<(sizeof(A) < sizeof(unsigned)), unsigned, std::make_unsigned_t<A>>;
    U r = 1, b = static_cast<U>(x);
    for (std::make_unsigned_t<B> e = static_cast<std::make_unsigned_t<B>>(y); e != 0; e >>= 1) {
      if (e & 1u) r *= b;
      b *= b;
    }
    return static_cast<A>(r);
  } else {
    return cast<A>(std::pow(static_cast<double>(x), static_cast<double>(y)));
  }
}

/// Remainder with the sign of the dividend, as C's % and fmod (ONNX Mod with fmod=1). Division by 0 gives 0
/// for integers.
template <class A, class B>
SOFIE_INLINE inline auto fmod(A x, B y) {
  if constexpr (is_vector<A> || is_vector<B>) {
    float a[kLanes], b[kLanes];
    store(a, Full{0}, broadcast(x));
    store(b, Full{0}, broadcast(y));
    for (std::size_t l = 0; l < kLanes; ++l) a[l] = std::fmod(a[l], b[l]);
    return load(a, Full{0});
  } else if constexpr (std::is_integral<A>::value) {
    // -1: the quotient of the most negative value overflows.
    return y == B(0) || (std::is_signed<B>::value && y == B(-1)) ? A(0) : static_cast<A>(x % y);
  } else {
    return std::fmod(x, y);
  }
}

/// Remainder with the sign of the divisor, as Python's % (ONNX Mod with fmod=0).
template <class A, class B>
SOFIE_INLINE inline auto mod(A x, B y) {
  const auto r = fmod(x, y);
  if constexpr (is_vector<A> || is_vector<B>) {
    const f32v d = broadcast(y);
    return select(logical_and(r != f32v{}, (r < f32v{}) ^ (d < f32v{})), r + d, r);
  } else {
    using T = std::remove_const_t<decltype(r)>;
    return r != T(0) && ((r < T(0)) != (y < B(0))) ? static_cast<T>(r + y) : r;
  }
}

}  // namespace SOFIE_ISA
}  // namespace sofie
