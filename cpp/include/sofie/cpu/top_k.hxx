// The k largest or smallest elements, ranks of floats being counted many at a time. Ties and NaN are as in
// core/sort.hxx.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "../core/sort.hxx"
#include "simd.hxx"

namespace sofie {
inline namespace SOFIE_ISA {

namespace detail {
// The k best of n floats by counting: an element's rank is the number of elements that come before it, and
// kLanes ranks are counted at once. That takes n^2 / kLanes comparisons, so where n is large, most elements
// are dropped first: the elements are dealt into more than k groups, and what is below the k-th best of the
// groups' best cannot be among the k best.
constexpr std::size_t kMaxCounted = 256;  // candidates that are counted, else they are sorted
constexpr std::size_t kMaxSelected = 64;  // and the largest k for which this pays
constexpr std::size_t kRankVectors = 4;   // vectors of ranks that are counted in one go
constexpr std::int32_t kWorst = -std::numeric_limits<std::int32_t>::max();

SOFIE_INLINE inline i32v load_keys(const std::int32_t* p) {
  i32v v;
  std::memcpy(&v, p, sizeof v);
  return v;
}
SOFIE_INLINE inline void store_keys(std::int32_t* p, i32v v) { std::memcpy(p, &v, sizeof v); }

SOFIE_INLINE inline i32v lane_indices() { return __builtin_convertvector(lane_numbers(), i32v); }

/// counts + 1 where a > b.
SOFIE_INLINE inline i32v count_greater(i32v counts, i32v a, i32v b) {
#if defined(SOFIE_ISA_AVX512)
  const __mmask16 greater = _mm512_cmpgt_epi32_mask((__m512i)a, (__m512i)b);
  return (i32v)_mm512_mask_sub_epi32((__m512i)counts, greater, (__m512i)counts, _mm512_set1_epi32(-1));
#else
  return counts - (a > b);
#endif
}

/// Integers in the order in which the elements are wanted, the best one the largest: -0 as 0, NaN (of either
/// sign) above all numbers. None is below kWorst.
template <bool Largest>
SOFIE_INLINE inline i32v order_keys(f32v x) {
  const i32v bits = (i32v)to_bits(x + 0.f);
  const i32v ordered = bits ^ ((bits >> 31) & std::numeric_limits<std::int32_t>::max());
  const i32v key = x == x ? ordered : i32v{} + std::numeric_limits<std::int32_t>::max();
  return Largest ? key : -key;
}

/// ranks[first + l] for V vectors: how many of keys[n] are larger, or equal and before first + l.
template <std::size_t V>
SOFIE_NOINLINE void count_ranks(const std::int32_t* keys, std::size_t n, std::size_t first,
                                std::int32_t* ranks) {
  // What a key must exceed to come before: one less than the own key up to the own position, then that.
  i32v bound[V], rank[V];
  SOFIE_UNROLL
  for (std::size_t v = 0; v < V; ++v) {
    bound[v] = load_keys(keys + first + v * kLanes) - 1;
    rank[v] = i32v{};
  }
  const auto meet = [&](std::size_t j) SOFIE_INLINE {
    const i32v key = i32v{} + keys[j];
    SOFIE_UNROLL
    for (std::size_t v = 0; v < V; ++v) rank[v] = count_greater(rank[v], key, bound[v]);
  };
  std::size_t j = 0;
  for (; j < first; ++j) meet(j);
  SOFIE_UNROLL
  for (std::size_t v = 0; v < V; ++v) {
    const std::size_t end = first + (v + 1) * kLanes < n ? first + (v + 1) * kLanes : n;
    i32v own = lane_indices();  // 0 in the lane of position j
    for (; j < end; ++j, own -= 1) {
      bound[v] -= own == 0;
      meet(j);
    }
  }
  for (; j < n; ++j) meet(j);
  SOFIE_UNROLL
  for (std::size_t v = 0; v < V; ++v) store_keys(ranks + first + v * kLanes, rank[v]);
}

/// ranks[n] of keys[n]; both have room for whole vectors, and keys is padded with kWorst.
inline void count_ranks(const std::int32_t* keys, std::size_t n, std::int32_t* ranks) {
  for (std::size_t first = 0; first < n; first += kRankVectors * kLanes) {
    static_assert(kRankVectors == 4, "the cases below");
    switch ((std::min(n - first, kRankVectors * kLanes) + kLanes - 1) / kLanes) {
      case 1:
        count_ranks<1>(keys, n, first, ranks);
        break;
      case 2:
        count_ranks<2>(keys, n, first, ranks);
        break;
      case 3:
        count_ranks<3>(keys, n, first, ranks);
        break;
      default:
        count_ranks<4>(keys, n, first, ranks);
    }
  }
}

/// The k-th largest of n keys, which are padded to whole vectors.
inline std::int32_t kth_largest(const std::int32_t* keys, std::size_t n, std::size_t k) {
  alignas(64) std::int32_t ranks[2 * kMaxSelected + kLanes];
  count_ranks(keys, n, ranks);
  i32v best = i32v{} + kWorst;
  for (std::size_t i = 0; i < n; i += kLanes) {
    const i32v key = load_keys(keys + i), rest = load_keys(ranks + i) >= static_cast<std::int32_t>(k) - 1;
    best = (rest & (key > best)) ? key : best;
  }
  std::int32_t largest = best[0];
  for (std::size_t l = 1; l < kLanes; ++l) largest = best[l] > largest ? best[l] : largest;
  return largest;
}

/// Moves the keys that are at least `least` to the front of `kept`, and their positions to `positions`;
/// returns how many (padding included if it is that bad), but stops once there are more than kMaxCounted.
inline std::size_t keep_at_least(std::int32_t least, const std::int32_t* keys, std::size_t n,
                                 std::int32_t* kept, std::int32_t* positions) {
  std::size_t m = 0;
  const i32v bound = i32v{} + least;
  i32v position = lane_indices();
  for (std::size_t i = 0; i < n && m <= kMaxCounted; i += kLanes, position += kLanes) {
    const i32v key = load_keys(keys + i);
#if defined(SOFIE_ISA_AVX512)
    const __mmask16 good = _mm512_cmpge_epi32_mask((__m512i)key, (__m512i)bound);
    store_keys(kept + m, (i32v)_mm512_maskz_compress_epi32(good, (__m512i)key));
    store_keys(positions + m, (i32v)_mm512_maskz_compress_epi32(good, (__m512i)position));
    m += static_cast<std::size_t>(__builtin_popcount(good));
#else
    const i32v good = key >= bound;
    for (std::size_t l = 0; l < kLanes; ++l) {
      kept[m] = key[l];
      positions[m] = position[l];
      m += good[l] != 0;
    }
#endif
  }
  return m;
}

/// Positions of the k best of n <= 2^31 keys in order, k <= kMaxSelected; false where that would take long.
/// The keys are padded to whole vectors with kWorst.
/// @param space room for 3 * (n + 2 * kLanes) integers.
/// @param order the positions; room for n + 2 * kLanes.
inline bool select_by_rank(const std::int32_t* keys, std::size_t n, std::size_t k, std::int32_t* space,
                           std::int32_t* order) {
  const std::size_t room = n + 2 * kLanes, vectors = (n + kLanes - 1) / kLanes;
  std::int32_t *ranks = space, *kept = space + room, *positions = kept + room;
  const std::size_t groups = (2 * k + kLanes - 1) / kLanes;  // in vectors
  if (vectors <= kRankVectors || vectors <= 2 * groups) {
    if (n > kMaxCounted) return false;
    count_ranks(keys, n, ranks);
    for (std::size_t i = 0; i < n; ++i) order[ranks[i]] = static_cast<std::int32_t>(i);
    return true;
  }
  alignas(64) std::int32_t best[2 * kMaxSelected + kLanes];
  for (std::size_t g = 0; g < groups; ++g) {
    i32v top = load_keys(keys + g * kLanes);
    for (std::size_t v = g + groups; v < vectors; v += groups) {
      const i32v key = load_keys(keys + v * kLanes);
      top = key > top ? key : top;
    }
    store_keys(best + g * kLanes, top);
  }
  const std::size_t m = keep_at_least(kth_largest(best, groups * kLanes, k), keys, n, kept, positions);
  if (m > kMaxCounted) return false;
  store_keys(kept + m, i32v{} + kWorst);
  count_ranks(kept, m, ranks);
  for (std::size_t i = 0; i < m; ++i) order[ranks[i]] = positions[i];
  return true;
}
}  // namespace detail

/// The k largest (P::largest) or smallest elements along the middle axis of x[outer][n][inner], in order.
///
/// @param values [outer][k][inner], or nullptr.
/// @param indices their positions along the axis, same shape, or nullptr.
/// @param workspace 3 * n + 80 elements: the positions, or keys and what select_by_rank needs.
/// @throws std::out_of_range if k > n.
template <class P, class T>
void top_k(std::size_t outer, std::size_t n, std::size_t inner, std::size_t k, const T* x,
           std::common_type_t<T>* values, std::int64_t* indices, std::int64_t* workspace) {
  if (k > n) {
    throw std::out_of_range("TopK: k = " + std::to_string(k) + " of only " + std::to_string(n) + " elements");
  }
  for (std::size_t o = 0; o < outer; ++o) {
    for (std::size_t i = 0; i < inner; ++i) {
      const T* column = x + o * n * inner + i;
      const auto write = [&](const auto* order) {
        for (std::size_t j = 0; j < k; ++j) {
          const std::size_t target = (o * k + j) * inner + i;
          if (values) values[target] = column[static_cast<std::size_t>(order[j]) * inner];
          if (indices) indices[target] = order[j];
        }
      };
      if constexpr (std::is_same<T, float>::value) {
        if (k <= detail::kMaxSelected && n < std::numeric_limits<std::int32_t>::max()) {
          auto* keys = reinterpret_cast<std::int32_t*>(workspace);
          std::int32_t *order = keys + n + 2 * kLanes, *space = order + n + 2 * kLanes;
          map(n, [&](auto j) SOFIE_INLINE {
            const f32v v = inner == 1 ? load(column, j) : gather(column, inner, j);
            const i32v key = detail::order_keys<P::largest>(v);
            detail::store_keys(keys + j.i, valid_lanes(j) ? key : i32v{} + detail::kWorst);
          });
          if (detail::select_by_rank(keys, n, k, space, order)) {
            write(order);
            continue;
          }
        }
      }
      order_k_best<P::largest>(column, n, inner, k, workspace);
      write(workspace);
    }
  }
}

}  // namespace SOFIE_ISA
}  // namespace sofie
