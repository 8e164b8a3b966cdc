// What is most often done with the sums of a product. These have names so that all products of a program
// which end alike share their code, and so that a product can do it while the sums are in registers.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>

#include "simd.hxx"

namespace sofie {
inline namespace SOFIE_ISA {

/// The sum itself.
struct Identity {
  template <class V, class... Index>
  SOFIE_INLINE V operator()(V acc, Index...) const {
    return acc;
  }
};

/// The sum and a bias per column.
template <class T>
struct Bias {
  const T* bias;
  template <class V, class J>
  SOFIE_INLINE auto operator()(V acc, std::size_t, J j) const {
    return acc + load(bias, j);
  }
};

/// The same, or 0 where that is negative.
template <class T>
struct BiasRelu {
  const T* bias;
  template <class V, class J>
  SOFIE_INLINE auto operator()(V acc, std::size_t, J j) const {
    return max(acc + load(bias, j), T(0));
  }
};

}  // namespace SOFIE_ISA
}  // namespace sofie
