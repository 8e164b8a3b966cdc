// The bytes of a tensor under another type.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstring>

#include "basics.hxx"

namespace sofie {
inline namespace SOFIE_ISA {

/// y[n] = x[n] bit by bit. P says nothing that the types do not.
template <class P, class T, class U>
void bit_cast(std::size_t n, const T* x, U* y) {
  static_assert(sizeof(T) == sizeof(U), "elements must have one size");
  if (n != 0) std::memcpy(static_cast<void*>(y), static_cast<const void*>(x), n * sizeof(T));
}

}  // namespace SOFIE_ISA
}  // namespace sofie
