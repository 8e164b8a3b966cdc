// The product of recurrent states with their weights: what a recurrent network does in every step.
//
// A step is a product of one row (of a few for a batch) that depends on the step before, so there is nothing
// to gain from blocking: every weight is read once per step and the speed is that of the caches. The weights
// of a step are therefore stored in the very order in which they are read.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <type_traits>

#include "gemm.hxx"
#include "simd.hxx"

namespace sofie {
inline namespace SOFIE_ISA {

/// Panels of kPanel columns in a strip, at most. Two strips are read side by side: their sums fit into the
/// registers of AVX-512, and two streams come faster from the L2 cache than one (Zen 5: 215 against 185
/// GB/s).
constexpr std::size_t kStripPanels = 10;

/// Packed weights of N columns: strips of nearly equal width, one behind the other, each row by row.
template <std::size_t N>
struct Strips {
  static_assert(N % kPanel == 0, "columns come in whole panels");
  static constexpr std::size_t panels = N / kPanel;
  static constexpr std::size_t count = (panels + kStripPanels - 1) / kStripPanels;
  /// Columns of a strip, and those before it.
  static constexpr std::size_t width(std::size_t s) {
    return (panels / count + (s < panels % count ? 1 : 0)) * kPanel;
  }
  static constexpr std::size_t first(std::size_t s) {
    return (panels / count * s + (s < panels % count ? s : panels % count)) * kPanel;
  }
};

namespace detail {

// Vectors of sums that fit into the registers beside the operands; states of a batch in one tile; and those
// for which a pair of strips is kept in the caches.
#if defined(SOFIE_ISA_AVX512)
constexpr std::size_t kStateSums = 24, kStateRows = 6;
#else
constexpr std::size_t kStateSums = 12, kStateRows = 4;
#endif
constexpr std::size_t kStateBlock = 16 * kStateRows;

// Bytes of the L1 cache that weights can be expected to keep from one step to the next (of 32 to 48 kB), and
// those up to which it pays to keep a part of them.
constexpr std::size_t kStateNear = 32768, kStateFar = 98304;
// Weights of so many rows are read forwards even where the order of the rows is turned around.
constexpr std::size_t kTurnRows = 16;

/// What all tiles of a product have in common.
struct StateProduct {
  std::size_t k;              // size of a state
  std::size_t block;          // rows of weights that stay together when the order is turned; k: all
  bool turned;                // the last block comes first
  const float* x;             // the states, k apart
  const float* const* start;  // for each state, what its sums begin with
  float* sums;
  std::size_t ld_sums;
};

// sums[r][column + ...) = start[r][column + ...) + x[r] * weights, for R states, A vectors of columns of one
// strip and B of the next one. C chains of sums per element, for sums that would wait for their own latency:
// chain c takes every C-th row.
template <std::size_t R, std::size_t C, std::size_t A, std::size_t B, bool Far>
SOFIE_NOINLINE void state_tile(const StateProduct& p, std::size_t row, std::size_t column, const float* a,
                               std::size_t lda, const float* b, std::size_t ldb) {
  constexpr std::size_t V = A + B;
  f32v acc[C][R][V];
  SOFIE_UNROLL
  for (std::size_t r = 0; r < R; ++r) {
    SOFIE_UNROLL
    for (std::size_t v = 0; v < V; ++v) {
      acc[0][r][v] = load(p.start[row + r] + column, Full{v * kLanes});
      SOFIE_UNROLL
      for (std::size_t c = 1; c < C; ++c) acc[c][r][v] = f32v{};
    }
  }
  const auto add = [&](std::size_t c, const float* x, const float* wa, const float* wb) SOFIE_INLINE {
    // Four rows ahead: the hardware's own prefetching stops at every page.
    if constexpr (Far && R == 1) {
      SOFIE_UNROLL
      for (std::size_t v = 0; v < A; v += 64 / (kLanes * sizeof(float))) {
        __builtin_prefetch(wa + 4 * lda + v * kLanes);
      }
      SOFIE_UNROLL
      for (std::size_t v = 0; v < B; v += 64 / (kLanes * sizeof(float))) {
        __builtin_prefetch(wb + 4 * ldb + v * kLanes);
      }
    }
    if constexpr (R == 1) {
      const f32v s = broadcast(*x);
      SOFIE_UNROLL
      for (std::size_t v = 0; v < A; ++v) acc[c][0][v] = fma(s, load(wa, Full{v * kLanes}), acc[c][0][v]);
      SOFIE_UNROLL
      for (std::size_t v = 0; v < B; ++v) {
        acc[c][0][A + v] = fma(s, load(wb, Full{v * kLanes}), acc[c][0][A + v]);
      }
    } else {
      static_assert(R == 1 || B == 0, "one strip for several rows");
      f32v w[A];
      SOFIE_UNROLL
      for (std::size_t v = 0; v < A; ++v) w[v] = load(wa, Full{v * kLanes});
      SOFIE_UNROLL
      for (std::size_t r = 0; r < R; ++r) {
        const f32v s = broadcast(x[r * p.k]);
        SOFIE_UNROLL
        for (std::size_t v = 0; v < A; ++v) acc[c][r][v] = fma(s, w[v], acc[c][r][v]);
      }
    }
  };
  for (std::size_t done = 0, n; done < p.k; done += n) {
    n = p.k - done < p.block ? p.k - done : p.block;
    const std::size_t from = p.turned ? p.k - done - n : done;
    const float *x = p.x + row * p.k + from, *wa = a + from * lda, *wb = b + from * ldb;
    std::size_t i = 0;
    for (; i + C <= n; i += C) {
      SOFIE_UNROLL
      for (std::size_t c = 0; c < C; ++c) add(c, x + c, wa + c * lda, wb + c * ldb);
      x += C;
      wa += C * lda;
      wb += C * ldb;
    }
    if constexpr (C > 1) {
      for (; i < n; ++i, ++x, wa += lda, wb += ldb) add(0, x, wa, wb);
    }
  }
  SOFIE_UNROLL
  for (std::size_t r = 0; r < R; ++r) {
    SOFIE_UNROLL
    for (std::size_t v = 0; v < V; ++v) {
      f32v sum = acc[0][r][v];
      SOFIE_UNROLL
      for (std::size_t c = 1; c < C; ++c) sum = sum + acc[c][r][v];
      store(p.sums + (row + r) * p.ld_sums + column, Full{v * kLanes}, sum);
    }
  }
}

// The V vectors of a strip that are left, in tiles as equal as possible.
template <std::size_t R, std::size_t C, std::size_t V, bool Far>
inline void state_strip(const StateProduct& p, std::size_t row, std::size_t column, const float* w,
                        std::size_t ld) {
  constexpr std::size_t most = kStateSums / (R * C), tiles = (V + most - 1) / most;
  constexpr std::size_t now = (V + tiles - 1) / tiles;
  state_tile<R, C, now, 0, Far>(p, row, column, w, ld, w, 0);
  if constexpr (V > now) {
    state_strip<R, C, V - now, Far>(p, row, column + now * kLanes, w + now * kLanes, ld);
  }
}

template <std::size_t N, std::size_t C, bool Far, std::size_t S = 0>
inline void state_strips(const StateProduct& p, std::size_t rows, const float* w) {
  using All = Strips<N>;
  constexpr bool last = S + 1 == All::count;
  constexpr std::size_t first = All::first(S), one = All::width(S), two = last ? 0 : All::width(S + 1);
  const float *a = w + first * p.k, *b = a + one * p.k;
  std::size_t row = 0;
  const auto tiles = [&](auto r) SOFIE_INLINE {
    constexpr std::size_t R = decltype(r)::value;
    for (; row + R <= rows; row += R) {
      state_strip<R, C, one / kLanes, Far>(p, row, first, a, one);
      if constexpr (!last) state_strip<R, C, two / kLanes, Far>(p, row, first + one, b, two);
    }
  };
  tiles(fixed<kStateRows>{});
  tiles(fixed<2>{});
  for (; row < rows; ++row) {
    if constexpr (C * (one + two) / kLanes <= kStateSums) {
      state_tile<1, C, one / kLanes, two / kLanes, Far>(p, row, first, a, one, b, two);
    } else {
      state_strip<1, C, one / kLanes, Far>(p, row, first, a, one);
      if constexpr (!last) state_strip<1, C, two / kLanes, Far>(p, row, first + one, b, two);
    }
  }
  if constexpr (S + 2 < All::count) state_strips<N, C, Far, S + 2>(p, rows, w);
}

}  // namespace detail

/// sums[r][0 .. N) = start[r][0 .. N) + x[r][0 .. K) * weights, for `rows` states.
///
/// An element's value does not depend on the number of rows. Weights somewhat larger than the L1 cache are
/// read from the other end in every second step (`odd`), so that a step finds what the last one has left
/// there.
/// @tparam Bytes of all weights that a step reads, these and others.
/// @param steps K, or 0 where the states are all zero.
/// @param w [K][N] packed in Strips.
template <std::size_t N, std::size_t K, std::size_t Bytes, class T>
void state_product(std::size_t rows, std::size_t steps, bool odd, const T* x, const T* w,
                   const T* const* start, T* sums) {
  if constexpr (std::is_same<T, float>::value) {
    constexpr bool turns = Bytes > detail::kStateNear && Bytes <= detail::kStateFar;
    constexpr std::size_t chains = N / kLanes <= 4 ? 2 : 1;
    const detail::StateProduct p{steps, turns ? detail::kTurnRows : K, turns && odd, x, start, sums, N};
    detail::state_strips<N, chains, (Bytes > detail::kStateFar)>(p, rows, w);
  } else {
    using All = Strips<N>;
    for (std::size_t r = 0; r < rows; ++r) {
      for (std::size_t s = 0; s < All::count; ++s) {
        const std::size_t width = All::width(s), first = All::first(s);
        for (std::size_t j = 0; j < width; ++j) {
          const T* column = w + first * K + j;
          T sum = start[r][first + j];
          for (std::size_t i = 0; i < steps; ++i) sum = fma(x[r * K + i], column[i * width], sum);
          sums[r * N + first + j] = sum;
        }
      }
    }
  }
}

}  // namespace SOFIE_ISA
}  // namespace sofie
