// The k largest or smallest elements along an axis, by sorting.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "../core/sort.hxx"
#include "math.hxx"

namespace sofie::reference {
inline namespace SOFIE_ISA {

/// The k largest (P::largest) or smallest elements along the middle axis of x[outer][n][inner], in order.
///
/// @param values [outer][k][inner], or nullptr.
/// @param indices their positions along the axis, same shape, or nullptr.
/// @param workspace n elements.
/// @throws std::out_of_range if k > n.
template <class P, class T>
void top_k(std::size_t outer, std::size_t n, std::size_t inner, std::size_t k, const T* x, same<T>* values,
           std::int64_t* indices, std::int64_t* workspace) {
  if (k > n) {
    throw std::out_of_range("TopK: k = " + std::to_string(k) + " of only " + std::to_string(n) + " elements");
  }
  for (std::size_t o = 0; o < outer; ++o) {
    for (std::size_t i = 0; i < inner; ++i) {
      const T* column = x + o * n * inner + i;
      order_k_best<P::largest>(column, n, inner, k, workspace);
      for (std::size_t j = 0; j < k; ++j) {
        const std::size_t target = (o * k + j) * inner + i;
        if (values) values[target] = column[static_cast<std::size_t>(workspace[j]) * inner];
        if (indices) indices[target] = workspace[j];
      }
    }
  }
}

}  // namespace SOFIE_ISA
}  // namespace sofie::reference
