// Ensembles of decision trees.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "../core/basics.hxx"

namespace sofie {
inline namespace SOFIE_ISA {

namespace detail {
/// How a node compares; the numbers are those of ONNX's TreeEnsemble.
enum TreeMode : std::size_t { kLessEqual, kLess, kGreaterEqual, kGreater, kEqual, kNotEqual, kMixed };

template <class T>
SOFIE_INLINE inline bool tree_test(std::size_t mode, T x, T split) {
  switch (mode) {
    case kLessEqual:
      return x <= split;
    case kLess:
      return x < split;
    case kGreaterEqual:
      return x >= split;
    case kGreater:
      return x > split;
    case kEqual:
      return x == split;
    default:
      return x != split;
  }
}
}  // namespace detail

/// Scores of each row of x[rows][features]: y[rows][P::targets] = base + the weights of the leaves it ends
/// in, added up (P::aggregate 0, divided by the number of trees for 1), or the smallest (2) or largest (3) of
/// them.
///
/// A leaf leads to itself, so that all trees of a group take as many steps as the deepest: there is no branch
/// to mispredict, and the trees of a group wait for memory together.
///
/// P::mode is how all nodes compare; with kMixed it is in bits 24 to 26 of a node's feature. P::missing:
/// where bit 27 is set, NaN passes. P::nodes: number of nodes that are not leaves; leaf k is node P::nodes +
/// k.
/// @param nodes per node the split (a T), the feature, the node if the test holds, the node if not (int32
/// each),
///        padded to the alignment of T.
/// @param depths steps of each group of 8 trees.
/// @param start [leaves + 1]: which of targets and weights belong to a leaf.
template <class P, class T>
void trees(std::size_t rows, std::size_t features, std::size_t count, const T* x, const std::int32_t* nodes,
           const std::int32_t* roots, const std::int32_t* depths, const std::int32_t* start,
           const std::int32_t* targets, const T* weights, const T* base, T* y) {
  constexpr std::size_t group = 8, head = sizeof(T) / sizeof(std::int32_t), stride = head == 1 ? 4 : 6;
  const T unset = P::aggregate == 2 ? infinity<T>() : -infinity<T>();
  for (std::size_t row = 0; row < rows; ++row, x += features, y += P::targets) {
    for (std::size_t k = 0; k < P::targets; ++k) y[k] = P::aggregate < 2 ? T(0) : unset;
    for (std::size_t first = 0; first < count; first += group) {
      const std::size_t n = count - first < group ? count - first : group;
      std::int32_t at[group] = {};
      for (std::size_t k = 0; k < n; ++k) at[k] = roots[first + k];
      const auto step = [&](std::int32_t& place) {
        const std::int32_t* node = nodes + static_cast<std::size_t>(place) * stride;
        T split;
        std::memcpy(&split, node, sizeof(T));
        const std::int32_t packed = node[head];
        const T value = x[P::mode == detail::kMixed || P::missing ? packed & 0xffffff : packed];
        const std::size_t mode =
            P::mode == detail::kMixed ? static_cast<std::size_t>(packed >> 24 & 7) : P::mode;
        bool holds = detail::tree_test(mode, value, split);
        if (P::missing) holds |= (value != value) & static_cast<bool>(packed >> 27 & 1);
        place = node[head + 1 + static_cast<std::size_t>(!holds)];
      };
      const std::int32_t depth = depths[first / group];
      if (n == group) {
        for (std::int32_t d = 0; d < depth; ++d) {
          for (std::size_t k = 0; k < group; ++k) step(at[k]);
        }
      } else {
        for (std::int32_t d = 0; d < depth; ++d) {
          for (std::size_t k = 0; k < n; ++k) step(at[k]);
        }
      }
      for (std::size_t k = 0; k < n; ++k) {
        const std::size_t leaf = static_cast<std::size_t>(at[k]) - P::nodes;
        for (std::int32_t w = start[leaf]; w < start[leaf + 1]; ++w) {
          T& score = y[targets[w]];
          if (P::aggregate < 2) score += weights[w];
          if (P::aggregate == 2) score = weights[w] < score ? weights[w] : score;
          if (P::aggregate == 3) score = weights[w] > score ? weights[w] : score;
        }
      }
    }
    for (std::size_t k = 0; k < P::targets; ++k) {
      if (P::aggregate == 1) y[k] /= T(count);
      if (P::aggregate > 1 && y[k] == unset) y[k] = T(0);
      y[k] += base[k];
    }
  }
}

}  // namespace SOFIE_ISA
}  // namespace sofie
