// Running sums.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>

#include "simd.hxx"

namespace sofie {
inline namespace SOFIE_ISA {

/// y[o][j][i] = sum of x[o][0 ... j][i] along the middle axis of x[outer][n][inner]; from the end backwards
/// if P::reverse, without x[o][j][i] itself if P::exclusive.
template <class P, class T>
void cumulative_sum(std::size_t outer, std::size_t n, std::size_t inner, const T* x, T* y) {
  for (std::size_t o = 0; o < outer; ++o, x += n * inner, y += n * inner) {
    for (std::size_t step = 0; step < n; ++step) {
      const std::size_t j = P::reverse ? n - 1 - step : step;
      const T* now = x + j * inner;
      T* sum = y + j * inner;
      if (step == 0) {
        for (std::size_t i = 0; i < inner; ++i) sum[i] = P::exclusive ? T(0) : now[i];
        continue;
      }
      const std::size_t before = P::reverse ? j + 1 : j - 1;
      const T* last = y + before * inner;
      if (P::exclusive) now = x + before * inner;
      // x * 1 + sum: the product is exact, and integers wrap instead of overflowing.
      for (std::size_t i = 0; i < inner; ++i) sum[i] = fma(now[i], T(1), last[i]);
    }
  }
}

}  // namespace SOFIE_ISA
}  // namespace sofie
