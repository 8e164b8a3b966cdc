// Copies of matrices with any strides, transposed in registers.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "simd.hxx"

namespace sofie {
inline namespace SOFIE_ISA {
namespace detail {
typedef float f32x4 __attribute__((vector_size(16)));

// Interleaves the lower (or upper) halves of two vectors: a0 b0 a1 b1 (or a2 b2 a3 b3).
template <bool Upper>
SOFIE_INLINE inline f32x4 interleave(f32x4 a, f32x4 b) {
#if defined(__clang__)
  return Upper ? __builtin_shufflevector(a, b, 2, 6, 3, 7) : __builtin_shufflevector(a, b, 0, 4, 1, 5);
#else
  typedef std::int32_t i32x4 __attribute__((vector_size(16)));
  return Upper ? __builtin_shuffle(a, b, i32x4{2, 6, 3, 7}) : __builtin_shuffle(a, b, i32x4{0, 4, 1, 5});
#endif
}

// to[i * ld + j] = from[i * step_i + j * step_j] for i < m, j < n; transposes by blocks of 4 x 4.
SOFIE_NOINLINE inline void copy_matrix(std::size_t m, std::size_t n, const float* from, std::size_t step_i,
                                       std::size_t step_j, float* to, std::size_t ld) {
  std::size_t i = 0;
  if (step_j == 1) {
    for (; i < m; ++i) {
      map(n, [&](auto j) SOFIE_INLINE { store(to + i * ld, j, load(from + i * step_i, j)); });
    }
  } else if (step_i == 1) {
    const std::size_t whole = n / 4 * 4;
    for (; i + 4 <= m; i += 4) {
      for (std::size_t j = 0; j < whole; j += 4) {
        f32x4 r[4];
        SOFIE_UNROLL
        for (std::size_t l = 0; l < 4; ++l) std::memcpy(&r[l], from + i + (j + l) * step_j, sizeof r[l]);
        const f32x4 a = interleave<false>(r[0], r[2]), b = interleave<false>(r[1], r[3]);
        const f32x4 c = interleave<true>(r[0], r[2]), d = interleave<true>(r[1], r[3]);
        const f32x4 t[4] = {interleave<false>(a, b), interleave<true>(a, b), interleave<false>(c, d),
                            interleave<true>(c, d)};
        SOFIE_UNROLL
        for (std::size_t l = 0; l < 4; ++l) std::memcpy(to + (i + l) * ld + j, &t[l], sizeof t[l]);
      }
      for (std::size_t l = 0; l < 4; ++l) {
        for (std::size_t j = whole; j < n; ++j) to[(i + l) * ld + j] = from[i + l + j * step_j];
      }
    }
  }
  for (; i < m; ++i) {
    for (std::size_t j = 0; j < n; ++j) to[i * ld + j] = from[i * step_i + j * step_j];
  }
}

}  // namespace detail
}  // namespace SOFIE_ISA
}  // namespace sofie
