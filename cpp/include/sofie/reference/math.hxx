// The functions of expressions for one number at a time, by the standard library.
//
// Code that is generated for the reference target says `sofie::` for this namespace, which sees what core/
// has as well.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "../core/basics.hxx"
#include "../core/integer.hxx"

namespace sofie::reference {
using namespace sofie;
inline namespace SOFIE_ISA {

/// What a sum of T is kept in: double for floating point; integers wrap, which unsigned ones may.
template <class T>
using Sum = typename std::conditional_t<
    std::is_floating_point<T>::value, std::common_type<double>,
    std::common_type<std::make_unsigned_t<std::conditional_t<std::is_floating_point<T>::value, int, T>>,
                     unsigned>>::type;

/// Conversion as in C++, defined everywhere: floating point to integer truncates and saturates (NaN gives 0),
/// anything to bool is x != 0.
template <class To, class From>
To cast(From x) {
  if constexpr (std::is_same<To, bool>::value) {
    return x != From(0);
  } else if constexpr (std::is_integral<To>::value && std::is_floating_point<From>::value) {
    using L = std::numeric_limits<To>;
    // -min is a power of two (or 0) and exact in floating point; max may not be, max + 1 is.
    constexpr From top = static_cast<From>(L::max() / 2 + 1) * From(2);
    if (x != x) return 0;
    if (x >= top) return L::max();
    return x <= static_cast<From>(L::min()) ? L::min() : static_cast<To>(x);
  } else {
    return static_cast<To>(x);
  }
}

template <class A, class B>
auto divide(A a, B b) {
  return a / b;
}

/// The larger one; NaN if either is.
template <class A, class B>
auto max(A a, B b) {
  using T = std::common_type_t<A, B>;
  return static_cast<T>(a) > static_cast<T>(b) || a != a ? static_cast<T>(a) : static_cast<T>(b);
}
/// The smaller one; NaN if either is.
template <class A, class B>
auto min(A a, B b) {
  using T = std::common_type_t<A, B>;
  return static_cast<T>(a) < static_cast<T>(b) || a != a ? static_cast<T>(a) : static_cast<T>(b);
}

inline bool logical_and(bool a, bool b) { return a && b; }
inline bool logical_or(bool a, bool b) { return a || b; }
inline bool logical_xor(bool a, bool b) { return a != b; }
inline bool logical_not(bool a) { return !a; }

/// -x; the most negative integer gives itself.
template <class T>
T neg(T x) {
  if constexpr (std::is_integral<T>::value) {
    return sub(T(0), x);
  } else {
    return -x;
  }
}
/// |x|; the most negative integer gives itself.
template <class T>
T abs(T x) {
  if constexpr (std::is_integral<T>::value) {
    return x < T(0) ? neg(x) : x;
  } else {
    return std::fabs(x);
  }
}
/// -1, 0 or 1; NaN for NaN.
template <class T>
T sign(T x) {
  return x > T(0) ? T(1) : x < T(0) ? static_cast<T>(-1) : x;
}
template <class T>
bool isnan(T x) {
  return x != x;
}
template <class T>
bool isinf(T x) {
  return std::isinf(x);
}

/// Nearest integer, ties to even; integers stay what they are, here and below.
template <class T>
T round(T x) {
  if constexpr (std::is_integral<T>::value) return x;
  return static_cast<T>(std::nearbyint(x));
}
template <class T>
T floor(T x) {
  if constexpr (std::is_integral<T>::value) return x;
  return static_cast<T>(std::floor(x));
}
template <class T>
T ceil(T x) {
  if constexpr (std::is_integral<T>::value) return x;
  return static_cast<T>(std::ceil(x));
}
template <class T>
T trunc(T x) {
  if constexpr (std::is_integral<T>::value) return x;
  return static_cast<T>(std::trunc(x));
}

#define SOFIE_STANDARD(name) \
  template <class T>         \
  T name(T x) {              \
    return std::name(x);     \
  }
SOFIE_STANDARD(sqrt)
SOFIE_STANDARD(exp)
SOFIE_STANDARD(exp2)
SOFIE_STANDARD(expm1)
SOFIE_STANDARD(log)
SOFIE_STANDARD(log1p)
SOFIE_STANDARD(tanh)
SOFIE_STANDARD(erf)
SOFIE_STANDARD(sin)
SOFIE_STANDARD(cos)
SOFIE_STANDARD(tan)
SOFIE_STANDARD(asin)
SOFIE_STANDARD(acos)
SOFIE_STANDARD(atan)
SOFIE_STANDARD(sinh)
SOFIE_STANDARD(cosh)
SOFIE_STANDARD(asinh)
SOFIE_STANDARD(acosh)
SOFIE_STANDARD(atanh)
#undef SOFIE_STANDARD

template <class T>
T rsqrt(T x) {
  return T(1) / std::sqrt(x);
}
template <class T>
T reciprocal(T x) {
  return T(1) / x;
}
template <class T>
T relu(T x) {
  return max(x, T(0));
}
/// 1 / (1 + e^-x), without overflow.
template <class T>
T sigmoid(T x) {
  const T e = std::exp(-std::fabs(x));
  return (x < T(0) ? e : T(1)) / (T(1) + e);
}
/// 1 + erf(x), accurate where that is small.
template <class T>
T one_plus_erf(T x) {
  return std::erfc(-x);
}
/// The cumulative distribution of the standard normal distribution.
template <class T>
T normal_cdf(T x) {
  constexpr long double root = 0.707106781186547524400844362104849039L;
  return static_cast<T>(0.5L * std::erfc(static_cast<long double>(x) * -root));
}
/// log(1 + e^x), without overflow.
template <class T>
T softplus(T x) {
  return max(x, T(0)) + std::log1p(std::exp(-std::fabs(x)));
}
template <class T>
T softsign(T x) {
  return x / (T(1) + std::fabs(x));
}

/// x^y. Integers: by squaring, wrapping on overflow; negative exponents truncate the exact result towards 0.
template <class A, class B>
A pow(A x, B y) {
  if constexpr (std::is_integral<A>::value && std::is_integral<B>::value) {
    if (y < B(0))
      return static_cast<A>(x == A(1) ? 1 : x == static_cast<A>(-1) ? (y % B(2) != B(0) ? -1 : 1) : 0);
    A result = 1;
    for (auto e = static_cast<std::make_unsigned_t<B>>(y); e != 0; e >>= 1) {
      if (e & 1u) result = mul(result, x);
      x = mul(x, x);
    }
    return result;
  } else if constexpr (std::is_integral<A>::value) {
    return cast<A>(std::pow(static_cast<double>(x), static_cast<double>(y)));
  } else {
    return std::pow(x, static_cast<A>(y));
  }
}
/// Remainder with the sign of the dividend; that of integers by 0 is 0.
template <class T>
T fmod(T x, T y) {
  if constexpr (std::is_integral<T>::value) {
    // -1: the quotient of the most negative value overflows.
    return y == T(0) || (std::is_signed<T>::value && y == static_cast<T>(-1)) ? T(0) : static_cast<T>(x % y);
  } else {
    return std::fmod(x, y);
  }
}
/// Remainder with the sign of the divisor; that of integers by 0 is 0.
template <class T>
T mod(T x, T y) {
  const T r = fmod(x, y);
  return r != T(0) && (r < T(0)) != (y < T(0)) ? static_cast<T>(r + y) : r;
}

}  // namespace SOFIE_ISA
}  // namespace sofie::reference
