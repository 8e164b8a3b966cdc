// Running sums and products.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "reduction.hxx"

namespace sofie {
inline namespace SOFIE_ISA {

/// y[o][j][i] = x[o][0][i] Op ... Op x[o][j][i] along the middle axis of x[outer][n][inner]; from the end
/// backwards if P::reverse, without x[o][j][i] itself if P::exclusive.
template <class P, class Op, class T>
void scan(std::size_t outer, std::size_t n, std::size_t inner, const T* x, T* y) {
  for (std::size_t o = 0; o < outer; ++o, x += n * inner, y += n * inner) {
    for (std::size_t step = 0; step < n; ++step) {
      const std::size_t j = P::reverse ? n - 1 - step : step;
      const T* now = x + j * inner;
      T* result = y + j * inner;
      if (step == 0) {
        for (std::size_t i = 0; i < inner; ++i) result[i] = P::exclusive ? Op::template neutral<T> : now[i];
        continue;
      }
      const std::size_t before = P::reverse ? j + 1 : j - 1;
      const T* last = y + before * inner;
      if (P::exclusive) now = x + before * inner;
      for (std::size_t i = 0; i < inner; ++i) result[i] = Op{}(last[i], now[i]);
    }
  }
}

/// The same along an axis of x[shape...] that is known only at run time.
/// @throws std::out_of_range for an axis outside [-P::rank, P::rank).
template <class P, class Op, class T, class I>
void scan_along(const std::size_t (&shape)[P::rank], const I* axis, const T* x, T* y) {
  const auto rank = static_cast<std::int64_t>(P::rank), given = static_cast<std::int64_t>(*axis);
  if (given < -rank || given >= rank) {
    throw std::out_of_range("axis " + std::to_string(given) + " of a tensor of " + std::to_string(rank) +
                            " axes");
  }
  const auto along = static_cast<std::size_t>(given < 0 ? given + rank : given);
  std::size_t outer = 1, inner = 1;
  for (std::size_t k = 0; k < along; ++k) outer *= shape[k];
  for (std::size_t k = along + 1; k < P::rank; ++k) inner *= shape[k];
  scan<P, Op>(outer, shape[along], inner, x, y);
}

}  // namespace SOFIE_ISA
}  // namespace sofie
