// Attention, as its formula says.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cmath>
#include <cstddef>

#include "math.hxx"

namespace sofie::reference {
inline namespace SOFIE_ISA {

/// y = softmax(q k) v for each pair of outer indices, the softmax over the n keys; shape = {outer, inner, m,
/// n}, queries have k elements and values d.
/// @param qs, ks, vs, ys elements between neighbours along the four axes of each tensor.
/// @param scores n elements.
template <class T>
void attention(const std::size_t (&shape)[4], std::size_t k, std::size_t d, const T* q,
               const std::size_t (&qs)[4], const T* keys, const std::size_t (&ks)[4], const T* v,
               const std::size_t (&vs)[4], T* y, const std::size_t (&ys)[4], double* scores) {
  for (std::size_t a = 0; a < shape[0]; ++a) {
    for (std::size_t b = 0; b < shape[1]; ++b) {
      for (std::size_t i = 0; i < shape[2]; ++i) {
        double largest = -infinity<double>(), total = 0;
        for (std::size_t j = 0; j < shape[3]; ++j) {
          scores[j] = 0;
          for (std::size_t l = 0; l < k; ++l) {
            scores[j] += static_cast<double>(q[a * qs[0] + b * qs[1] + i * qs[2] + l * qs[3]]) *
                         static_cast<double>(keys[a * ks[0] + b * ks[1] + l * ks[2] + j * ks[3]]);
          }
          largest = max(largest, scores[j]);
        }
        for (std::size_t j = 0; j < shape[3]; ++j) total += scores[j] = std::exp(scores[j] - largest);
        for (std::size_t e = 0; e < d; ++e) {
          double sum = 0;
          for (std::size_t j = 0; j < shape[3]; ++j) {
            sum += scores[j] / total * static_cast<double>(v[a * vs[0] + b * vs[1] + j * vs[2] + e * vs[3]]);
          }
          y[a * ys[0] + b * ys[1] + i * ys[2] + e * ys[3]] = static_cast<T>(sum);
        }
      }
    }
  }
}

}  // namespace SOFIE_ISA
}  // namespace sofie::reference
