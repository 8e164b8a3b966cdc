// Writing to positions that are data. Sequential on purpose: where positions repeat, the last write wins, or
// the values combine in the order in which they come.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

#include "reduction.hxx"

namespace sofie {
inline namespace SOFIE_ISA {

namespace detail {
template <class I>
SOFIE_INLINE inline std::size_t checked_index(I index, std::size_t extent) {
  const auto n = static_cast<std::int64_t>(extent), i = static_cast<std::int64_t>(index);
  if (i < -n || i >= n) {
    throw std::out_of_range("Scatter: index " + std::to_string(i) + " into an axis of " + std::to_string(n));
  }
  return static_cast<std::size_t>(i < 0 ? i + n : i);
}

template <class T>
inline void copy_elements(std::size_t n, const T* from, T* to) {
  if (n != 0 && from != to) std::memcpy(to, from, n * sizeof(T));
}
}  // namespace detail

/// out = data[shape...], then for each position p of indices[count...] in row-major order
/// out[p with p[P::axis] replaced by indices[p]] = Op(that, updates[p]).
/// @throws std::out_of_range for an index outside [-shape[axis], shape[axis]).
template <class P, class Op, class T, class I>
void scatter_elements(const std::size_t (&shape)[P::rank], const std::size_t (&count)[P::rank], const T* data,
                      const I* indices, const T* updates, T* out) {
  std::size_t stride[P::rank], total = 1, updated = 1;
  for (std::size_t axis = P::rank; axis-- > 0;) {
    stride[axis] = total;
    total *= shape[axis];
    updated *= count[axis];
  }
  detail::copy_elements(total, data, out);
  std::size_t position[P::rank] = {};
  for (std::size_t k = 0; k < updated; ++k) {
    std::size_t target = detail::checked_index(indices[k], shape[P::axis]) * stride[P::axis];
    for (std::size_t axis = 0; axis < P::rank; ++axis) {
      if (axis != P::axis) target += position[axis] * stride[axis];
    }
    out[target] = Op{}(out[target], updates[k]);
    for (std::size_t axis = P::rank; axis-- > 0;) {
      if (++position[axis] < count[axis]) break;
      position[axis] = 0;
    }
  }
}

/// out = data[shape...][slice], then for k < count in order out[indices[k][0], ..., indices[k][P::length -
/// 1]] = Op(that slice, updates[k]).
/// @throws std::out_of_range for an index outside its axis.
template <class P, class Op, class T, class I>
void scatter_nd(const std::size_t (&shape)[P::length], std::size_t count, std::size_t slice, const T* data,
                const I* indices, const T* updates, T* out) {
  std::size_t total = slice;
  for (const std::size_t extent : shape) total *= extent;
  detail::copy_elements(total, data, out);
  for (std::size_t k = 0; k < count; ++k) {
    std::size_t target = 0;
    for (const std::size_t extent : shape)
      target = target * extent + detail::checked_index(*indices++, extent);
    T* to = out + target * slice;
    for (std::size_t i = 0; i < slice; ++i) to[i] = Op{}(to[i], *updates++);
  }
}

}  // namespace SOFIE_ISA
}  // namespace sofie
