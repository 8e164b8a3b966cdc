// Kernels that order or select elements: the k best ones, the non-zero ones, the distinct ones. All are
// deterministic: among equal elements the one with the lower position comes first, and NaN counts as larger
// than everything else.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "basics.hxx"

namespace sofie {
inline namespace SOFIE_ISA {

namespace detail {
/// a < b with NaN above all numbers.
template <class T>
SOFIE_INLINE inline bool ordered_less(T a, T b) {
  if constexpr (std::is_floating_point<T>::value) {
    return a < b || (b != b && a == a);
  } else {
    return a < b;
  }
}
}  // namespace detail

/// Moves the positions of the k best of column[n], whose elements are `step` apart, to the front of `order`.
/// @param order [n]; what follows the k positions is the others in any order.
template <bool Largest, class T>
void order_k_best(const T* column, std::size_t n, std::size_t step, std::size_t k, std::int64_t* order) {
  const auto before = [column, step](std::int64_t a, std::int64_t b) {
    const T p = column[static_cast<std::size_t>(a) * step], q = column[static_cast<std::size_t>(b) * step];
    if (Largest ? detail::ordered_less(q, p) : detail::ordered_less(p, q)) return true;
    if (Largest ? detail::ordered_less(p, q) : detail::ordered_less(q, p)) return false;
    return a < b;
  };
  for (std::size_t j = 0; j < n; ++j) order[j] = static_cast<std::int64_t>(j);
  std::partial_sort(order, order + k, order + n, before);
}

/// Positions of the elements of x[n] that are not zero, in order; the caller has counted them.
template <class T>
void true_positions(std::size_t n, const T* x, std::int64_t* positions) {
  for (std::size_t i = 0; i < n; ++i) {
    if (x[i] != T(0)) *positions++ = static_cast<std::int64_t>(i);
  }
}

/// The distinct slices along the middle axis of x[outer][n][inner]: ascending (P::sorted), or in the order of
/// their first occurrence. Slices compare element by element in row-major order.
///
/// @param number how many there are.
/// @param first [number] position of the first occurrence of each, or nullptr; room for n.
/// @param inverse [n] which distinct slice each position holds, or nullptr.
/// @param counts [number] how often each occurs, or nullptr; room for n.
/// @param workspace 2 * n elements.
template <class P, class T>
void unique(std::size_t outer, std::size_t n, std::size_t inner, const T* x, std::int64_t* number,
            std::int64_t* first, std::int64_t* inverse, std::int64_t* counts, std::int64_t* workspace) {
  // Negative, zero or positive like memcmp.
  const auto compare = [=](std::int64_t a, std::int64_t b) {
    const T *p = x + static_cast<std::size_t>(a) * inner, *q = x + static_cast<std::size_t>(b) * inner;
    for (std::size_t o = 0; o < outer; ++o, p += n * inner, q += n * inner) {
      for (std::size_t i = 0; i < inner; ++i) {
        if (detail::ordered_less(p[i], q[i])) return -1;
        if (detail::ordered_less(q[i], p[i])) return 1;
      }
    }
    return 0;
  };
  std::int64_t *order = workspace, *leader = workspace + n;
  for (std::size_t i = 0; i < n; ++i) order[i] = static_cast<std::int64_t>(i);
  std::sort(order, order + n, [&](std::int64_t a, std::int64_t b) {
    const int c = compare(a, b);
    return c < 0 || (c == 0 && a < b);
  });
  // leader[i] is the first position with the same slice as i.
  std::int64_t groups = 0;
  for (std::size_t j = 0; j < n; ++j) {
    const bool fresh = j == 0 || compare(order[j - 1], order[j]) != 0;
    leader[order[j]] = fresh ? order[j] : leader[order[j - 1]];
    if (P::sorted && fresh && first) first[groups] = order[j];
    groups += fresh;
  }
  *number = groups;
  if (P::sorted) {
    std::int64_t group = -1;
    for (std::size_t j = 0; j < n; ++j) {
      const std::int64_t i = order[j];
      if (leader[i] == i) ++group;
      if (inverse) inverse[i] = group;
      if (counts) counts[group] = leader[i] == i ? 1 : counts[group] + 1;
    }
    return;
  }
  // By first occurrence: order is not needed any more and takes the group of each leader.
  std::int64_t group = -1;
  for (std::size_t i = 0; i < n; ++i) {
    const std::int64_t own = static_cast<std::int64_t>(i);
    if (leader[i] == own) {
      order[i] = ++group;
      if (first) first[group] = own;
      if (counts) counts[group] = 0;
    }
    if (counts) ++counts[order[leader[i]]];
    if (inverse) inverse[i] = order[leader[i]];
  }
}

}  // namespace SOFIE_ISA
}  // namespace sofie
