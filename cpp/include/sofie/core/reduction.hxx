// How an element that is there and one that comes make one.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <type_traits>

#include "basics.hxx"
#include "integer.hxx"

namespace sofie {
inline namespace SOFIE_ISA {
namespace reduction {

/// The sum; that of integers wraps instead of overflowing.
struct Add {
  template <class T>
  static constexpr T neutral = T(0);
  template <class T>
  SOFIE_INLINE T operator()(T old, T update) const {
    if constexpr (std::is_integral<T>::value) {
      return add(old, update);
    } else {
      return old + update;
    }
  }
};
/// The product; that of integers wraps.
struct Mul {
  template <class T>
  static constexpr T neutral = T(1);
  template <class T>
  SOFIE_INLINE T operator()(T old, T update) const {
    if constexpr (std::is_integral<T>::value) {
      return mul(old, update);
    } else {
      return old * update;
    }
  }
};

}  // namespace reduction
}  // namespace SOFIE_ISA
}  // namespace sofie
