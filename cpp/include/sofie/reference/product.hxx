// Matrix products and attention, as their formulas say.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>

#include "math.hxx"

namespace sofie::reference {
inline namespace SOFIE_ISA {

/// y[rows][n] = x[rows][k] w[k][n].
template <class T>
void linear(std::size_t rows, std::size_t n, std::size_t k, const T* x, const T* w, T* y) {
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      Sum<T> sum = 0;
      for (std::size_t l = 0; l < k; ++l) {
        sum += static_cast<Sum<T>>(x[i * k + l]) * static_cast<Sum<T>>(w[l * n + j]);
      }
      y[i * n + j] = static_cast<T>(sum);
    }
  }
}

/// y[outer][inner][m][n] = x[outer][inner][m][k] w[outer][inner][k][n] with shape = {outer, inner, m, n}.
/// @param xs, ws elements between neighbours along each axis of x and w.
template <class T>
void matmul(const std::size_t (&shape)[4], std::size_t k, const T* x, const std::size_t (&xs)[4], const T* w,
            const std::size_t (&ws)[4], T* y) {
  for (std::size_t a = 0; a < shape[0]; ++a) {
    for (std::size_t b = 0; b < shape[1]; ++b) {
      for (std::size_t i = 0; i < shape[2]; ++i) {
        for (std::size_t j = 0; j < shape[3]; ++j) {
          Sum<T> sum = 0;
          for (std::size_t l = 0; l < k; ++l) {
            sum += static_cast<Sum<T>>(x[a * xs[0] + b * xs[1] + i * xs[2] + l * xs[3]]) *
                   static_cast<Sum<T>>(w[a * ws[0] + b * ws[1] + l * ws[2] + j * ws[3]]);
          }
          *y++ = static_cast<T>(sum);
        }
      }
    }
  }
}

/// y[rows][n] = (x[rows][k] - x_zero) (w[k][n] - w_zero) in 32 bits, which wrap around.
/// @param x_step, w_step 1 where each row and each column has a zero point of its own, else 0.
template <class X, class W>
void integer_matmul(std::size_t rows, std::size_t n, std::size_t k, const X* x, const std::int32_t* x_zero,
                    std::size_t x_step, const W* w, const std::int32_t* w_zero, std::size_t w_step,
                    std::int32_t* y) {
  for (std::size_t i = 0; i < rows; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      std::int32_t sum = 0;
      for (std::size_t l = 0; l < k; ++l) {
        sum = add(sum, mul(sub<std::int32_t>(x[i * k + l], x_zero[i * x_step]),
                           sub<std::int32_t>(w[l * n + j], w_zero[j * w_step])));
      }
      y[i * n + j] = sum;
    }
  }
}

}  // namespace SOFIE_ISA
}  // namespace sofie::reference
