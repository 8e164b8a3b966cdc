// Integer arithmetic with a defined result for every input: it wraps around, as NumPy's does.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <limits>
#include <type_traits>

#include "basics.hxx"

namespace sofie {
inline namespace SOFIE_ISA {

namespace detail {
/// Unsigned and at least as wide as int, so that arithmetic neither overflows nor promotes to signed.
template <class T>
using wrapping_t = std::common_type_t<std::make_unsigned_t<T>, unsigned>;
template <class T>
using if_integer = std::enable_if_t<std::is_integral<T>::value, int>;
}  // namespace detail

template <class T, detail::if_integer<T> = 0>
constexpr T add(T a, T b) {
  using U = detail::wrapping_t<T>;
  return static_cast<T>(static_cast<U>(a) + static_cast<U>(b));
}
template <class T, detail::if_integer<T> = 0>
constexpr T sub(T a, T b) {
  using U = detail::wrapping_t<T>;
  return static_cast<T>(static_cast<U>(a) - static_cast<U>(b));
}
template <class T, detail::if_integer<T> = 0>
constexpr T mul(T a, T b) {
  using U = detail::wrapping_t<T>;
  return static_cast<T>(static_cast<U>(a) * static_cast<U>(b));
}
/// a / b truncated towards zero; 0 for b == 0.
template <class T, detail::if_integer<T> = 0>
constexpr T div(T a, T b) {
  if (b == 0) return 0;
  if (std::is_signed<T>::value && b == static_cast<T>(-1)) return sub(T{0}, a);
  return static_cast<T>(a / b);
}

template <class T, detail::if_integer<T> = 0>
constexpr T bit_and(T a, T b) {
  return static_cast<T>(a & b);
}
template <class T, detail::if_integer<T> = 0>
constexpr T bit_or(T a, T b) {
  return static_cast<T>(a | b);
}
template <class T, detail::if_integer<T> = 0>
constexpr T bit_xor(T a, T b) {
  return static_cast<T>(a ^ b);
}
template <class T, detail::if_integer<T> = 0>
constexpr T bit_not(T a) {
  return static_cast<T>(~a);
}
/// a << b; 0 where b is not below the number of bits.
template <class T, detail::if_integer<T> = 0>
constexpr T shift_left(T a, T b) {
  using U = std::make_unsigned_t<T>;
  if (static_cast<std::uint64_t>(b) >= static_cast<std::uint64_t>(std::numeric_limits<U>::digits)) return 0;
  return static_cast<T>(static_cast<detail::wrapping_t<T>>(a) << b);
}
/// a >> b with copies of the sign; nothing but the sign is left where b is not below the number of bits.
template <class T, detail::if_integer<T> = 0>
constexpr T shift_right(T a, T b) {
  using U = std::make_unsigned_t<T>;
  constexpr int bits = std::numeric_limits<U>::digits;
  if (static_cast<std::uint64_t>(b) >= static_cast<std::uint64_t>(bits))
    return static_cast<T>(a >> (bits - 1) >> 1);
  return static_cast<T>(a >> b);
}

}  // namespace SOFIE_ISA
}  // namespace sofie
