// What kernels of every kind are written with: the instruction set as part of their names, hints for the
// compiler, extents that are known when the code is generated, infinity and NaN.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <limits>
#include <type_traits>

// The instruction set is part of every name (inline namespace), so that two libraries built with different
// flags cannot be merged into one inconsistent definition by the linker.
#ifndef SOFIE_ISA
#if defined(__AVX512F__) && defined(__AVX512VNNI__)
#define SOFIE_ISA avx512_vnni
#define SOFIE_ISA_AVX512 1
#elif defined(__AVX512F__)
#define SOFIE_ISA avx512
#define SOFIE_ISA_AVX512 1
#elif defined(__AVX2__) && defined(__FMA__) && defined(__AVXVNNI__)
#define SOFIE_ISA avx2_vnni
#define SOFIE_ISA_AVX2 1
#elif defined(__AVX2__) && defined(__FMA__)
#define SOFIE_ISA avx2
#define SOFIE_ISA_AVX2 1
#else
#define SOFIE_ISA generic
#endif
#endif

// An attribute alone, so that it also fits between the parameters and the body of a lambda.
#ifndef SOFIE_INLINE
#define SOFIE_INLINE __attribute__((always_inline))
#endif
#ifndef SOFIE_NOINLINE
#define SOFIE_NOINLINE __attribute__((noinline))
#endif
// Asks for a loop of constant trip count to be unrolled completely, whatever the -O level: arrays of
// accumulators live in registers only when every index into them is a constant.
#ifndef SOFIE_UNROLL
#if defined(__clang__)
#define SOFIE_UNROLL _Pragma("unroll")
#else
#define SOFIE_UNROLL _Pragma("GCC unroll 32")
#endif
#endif
// The registers that vectors and scalars of floats live in.
#if defined(SOFIE_ISA_AVX512)
#define SOFIE_FLOAT_REGISTER "v"
#elif defined(__SSE2__)
#define SOFIE_FLOAT_REGISTER "x"
#elif defined(__aarch64__)
#define SOFIE_FLOAT_REGISTER "w"
#else
#define SOFIE_FLOAT_REGISTER "m"
#endif

namespace sofie {
inline namespace SOFIE_ISA {

/// An extent known when the code is generated. Kernels take extents as `std::size_t` or `fixed<V>`; constants
/// fold through the latter.
template <std::size_t V>
struct fixed {
  static constexpr std::size_t value = V;
  constexpr operator std::size_t() const { return V; }
};

template <class N>
struct is_fixed : std::false_type {};
template <std::size_t V>
struct is_fixed<fixed<V>> : std::true_type {};

namespace detail {
template <class T>
struct Same {
  using type = T;
};
}  // namespace detail
/// T, but not deduced from an argument: lets null pointers be passed for optional operands.
template <class T>
using same = typename detail::Same<T>::type;

namespace detail {
/// x as a number of which the compiler does not know whether it is finite.
template <class T>
SOFIE_INLINE inline T hidden(T x) {
  asm("" : "+" SOFIE_FLOAT_REGISTER(x));
  return x;
}
}  // namespace detail

/// Infinity and NaN. Where the compiler is told that there are none (-ffinite-math-only), it does not see
/// these.
template <class T>
SOFIE_INLINE inline T infinity() {
#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
  return detail::hidden(std::numeric_limits<T>::infinity());
#else
  return std::numeric_limits<T>::infinity();
#endif
}
template <class T>
SOFIE_INLINE inline T quiet_nan() {
#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
  return detail::hidden(std::numeric_limits<T>::quiet_NaN());
#else
  return std::numeric_limits<T>::quiet_NaN();
#endif
}

}  // namespace SOFIE_ISA
}  // namespace sofie
