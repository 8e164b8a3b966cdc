// Windows that slide over the spatial axes of a tensor. P::kernel, P::stride, P::dilation, P::pad_begin and
// P::pad_end are as ONNX has them.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>

#include "math.hxx"

namespace sofie::reference {
inline namespace SOFIE_ISA {

/// Number of elements of a shape.
template <std::size_t S>
std::size_t count(const std::size_t (&shape)[S]) {
  std::size_t n = 1;
  for (const std::size_t size : shape) n *= size;
  return n;
}

/// The position `flat` along each axis of a shape.
template <std::size_t S>
void unravel(std::size_t flat, const std::size_t (&shape)[S], std::size_t (&at)[S]) {
  for (std::size_t axis = S; axis-- > 0; flat /= shape[axis]) at[axis] = flat % shape[axis];
}

/// Where the window at `at` sees through its tap: the position in an input of this shape; false outside.
template <class P, std::size_t S>
bool seen(const std::size_t (&at)[S], const std::size_t (&tap)[S], const std::size_t (&in)[S],
          std::size_t& position) {
  position = 0;
  for (std::size_t axis = 0; axis < S; ++axis) {
    const std::size_t padded = at[axis] * P::stride[axis] + tap[axis] * P::dilation[axis];
    if (padded < P::pad_begin[axis] || padded - P::pad_begin[axis] >= in[axis]) return false;
    position = position * in[axis] + padded - P::pad_begin[axis];
  }
  return true;
}

}  // namespace SOFIE_ISA
}  // namespace sofie::reference
