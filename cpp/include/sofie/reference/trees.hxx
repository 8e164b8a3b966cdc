// Ensembles of decision trees, one walk after the other.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>

#include "math.hxx"

namespace sofie::reference {
inline namespace SOFIE_ISA {

/// Whether x passes the test of a node: 0 to 5 for <=, <, >=, >, == and !=, plus 8 where NaN passes.
template <class T>
bool passes(std::int32_t mode, T x, T split) {
  if (mode >= 8 && x != x) return true;
  switch (mode & 7) {
    case 0:
      return x <= split;
    case 1:
      return x < split;
    case 2:
      return x >= split;
    case 3:
      return x > split;
    case 4:
      return x == split;
    default:
      return x != split;
  }
}

/// Scores of each row of x[rows][features]: y[rows][targets] = base + the weights of the leaves that it comes
/// to, added up (P::aggregate 0, divided by the number of trees for 1), or the smallest (2) or largest (3).
///
/// @param children [nodes][2]: where a row goes if the test holds and if not; -1 - k is leaf k.
/// @param roots [trees]; @param start [leaves + 1]: which of target and weight belong to a leaf.
template <class P, class T>
void trees(std::size_t rows, std::size_t features, std::size_t trees, std::size_t targets, const T* x,
           const std::int32_t* feature, const T* split, const std::int32_t* mode,
           const std::int32_t* children, const std::int32_t* roots, const std::int32_t* start,
           const std::int32_t* target, const T* weight, const T* base, T* y) {
  const T unset = P::aggregate == 2 ? infinity<T>() : -infinity<T>();
  for (std::size_t row = 0; row < rows; ++row, x += features, y += targets) {
    for (std::size_t k = 0; k < targets; ++k) y[k] = P::aggregate < 2 ? T(0) : unset;
    for (std::size_t tree = 0; tree < trees; ++tree) {
      std::int32_t at = roots[tree];
      while (at >= 0) at = children[2 * at + (passes(mode[at], x[feature[at]], split[at]) ? 0 : 1)];
      const std::int32_t leaf = -1 - at;
      for (std::int32_t w = start[leaf]; w < start[leaf + 1]; ++w) {
        T& score = y[target[w]];
        if (P::aggregate < 2) score += weight[w];
        if (P::aggregate == 2) score = weight[w] < score ? weight[w] : score;
        if (P::aggregate == 3) score = weight[w] > score ? weight[w] : score;
      }
    }
    for (std::size_t k = 0; k < targets; ++k) {
      if (P::aggregate == 1) y[k] /= static_cast<T>(trees);
      if (P::aggregate > 1 && y[k] == unset) y[k] = T(0);
      y[k] += base[k];
    }
  }
}

}  // namespace SOFIE_ISA
}  // namespace sofie::reference
