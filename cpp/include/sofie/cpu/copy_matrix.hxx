// Copies of matrices with any strides, transposed in registers.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <utility>

#include "simd.hxx"

namespace sofie {
inline namespace SOFIE_ISA {
namespace detail {
// Interleaves the lower (or upper) halves of two vectors: a0 b0 a1 b1 ...
template <bool Upper, std::size_t... L>
SOFIE_INLINE inline f32v interleave(f32v a, f32v b, std::index_sequence<L...>) {
  constexpr std::size_t first = Upper ? kLanes / 2 : 0;
  return shuffle(a, b, std::index_sequence<first + L / 2 + L % 2 * kLanes...>{});
}

// Transposes kLanes vectors: what comes log2(kLanes) times from interleaving each with the one half of them
// further on.
SOFIE_INLINE inline void transpose(f32v (&rows)[kLanes]) {
  SOFIE_UNROLL
  for (std::size_t done = 1; done < kLanes; done *= 2) {
    f32v next[kLanes];
    SOFIE_UNROLL
    for (std::size_t l = 0; l < kLanes / 2; ++l) {
      next[2 * l] = interleave<false>(rows[l], rows[l + kLanes / 2], AllLanes{});
      next[2 * l + 1] = interleave<true>(rows[l], rows[l + kLanes / 2], AllLanes{});
    }
    SOFIE_UNROLL
    for (std::size_t l = 0; l < kLanes; ++l) rows[l] = next[l];
  }
}

// to[i * ld + j] = from[i * step_i + j * step_j] for i < m, j < n.
SOFIE_NOINLINE inline void copy_matrix(std::size_t m, std::size_t n, const float* from, std::size_t step_i,
                                       std::size_t step_j, float* to, std::size_t ld) {
  if (step_j == 1) {
    for (std::size_t i = 0; i < m; ++i) {
      map(n, [&](auto j) SOFIE_INLINE { store(to + i * ld, j, load(from + i * step_i, j)); });
    }
  } else if (step_i == 1) {
    for (std::size_t j = 0; j < n; j += kLanes) {
      const std::size_t width = n - j < kLanes ? n - j : kLanes;
      // A block of kLanes x kLanes; what is beyond the matrix is neither read nor written.
      map(m, [&](auto i) SOFIE_INLINE {
        f32v rows[kLanes];
        SOFIE_UNROLL
        for (std::size_t l = 0; l < kLanes; ++l) {
          rows[l] = l < width ? load(from + (j + l) * step_j, i) : f32v{};
        }
        transpose(rows);
        const std::size_t height = m - i.i < kLanes ? m - i.i : kLanes;
        SOFIE_UNROLL
        for (std::size_t l = 0; l < kLanes; ++l) {
          if (l >= height) break;
          float* row = to + (i.i + l) * ld + j;
          if (width == kLanes) {
            store(row, Full{0}, rows[l]);
          } else {
            store(row, Partial{0, width}, rows[l]);
          }
        }
      });
    }
  } else {
    for (std::size_t i = 0; i < m; ++i) {
      for (std::size_t j = 0; j < n; ++j) to[i * ld + j] = from[i * step_i + j * step_j];
    }
  }
}

}  // namespace detail
}  // namespace SOFIE_ISA
}  // namespace sofie
