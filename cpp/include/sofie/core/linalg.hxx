// Linear algebra beyond products.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cmath>
#include <cstddef>
#include <utility>

#include "basics.hxx"

namespace sofie {
inline namespace SOFIE_ISA {

/// The determinant of each x[batch][n][n], by elimination with the largest pivot of each column.
///
/// @param workspace n * n elements.
template <class T>
void determinant(std::size_t batch, std::size_t n, const T* x, T* y, double* workspace) {
  for (std::size_t k = 0; k < batch; ++k, x += n * n) {
    for (std::size_t i = 0; i < n * n; ++i) workspace[i] = static_cast<double>(x[i]);
    double det = 1;
    for (std::size_t column = 0; column < n && det != 0; ++column) {
      std::size_t pivot = column;
      for (std::size_t row = column + 1; row < n; ++row) {
        if (std::fabs(workspace[row * n + column]) > std::fabs(workspace[pivot * n + column])) pivot = row;
      }
      if (pivot != column) {
        for (std::size_t j = 0; j < n; ++j) std::swap(workspace[pivot * n + j], workspace[column * n + j]);
        det = -det;
      }
      const double* top = workspace + column * n;
      det *= top[column];
      for (std::size_t row = column + 1; row < n && det != 0; ++row) {
        double* below = workspace + row * n;
        const double factor = below[column] / top[column];
        for (std::size_t j = column; j < n; ++j) below[j] -= factor * top[j];
      }
    }
    y[k] = static_cast<T>(det);
  }
}

}  // namespace SOFIE_ISA
}  // namespace sofie
