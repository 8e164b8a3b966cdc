// Pooling over sliding windows.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "window.hxx"

namespace sofie::reference {
inline namespace SOFIE_ISA {

/// The maximum of each window of x[planes][in], and where in x it is; the first of several, or the first NaN.
/// @param values [planes][out], or nullptr.
/// @param indices [planes][out], or nullptr; with P::column_major the first spatial axis runs fastest.
template <class P, std::size_t S, class T>
void max_pool(std::size_t planes, const std::size_t (&in)[S], const std::size_t (&out)[S], const T* x,
              same<T>* values, std::int64_t* indices) {
  const std::size_t taps = count(P::kernel), positions = count(out), pixels = count(in);
  std::size_t at[S], tap[S], place[S], position;
  for (std::size_t plane = 0; plane < planes; ++plane) {
    for (std::size_t p = 0; p < positions; ++p) {
      unravel(p, out, at);
      T best = std::is_floating_point<T>::value ? -infinity<T>() : std::numeric_limits<T>::lowest();
      std::size_t found = 0;
      bool any = false;
      for (std::size_t t = 0; t < taps; ++t) {
        unravel(t, P::kernel, tap);
        if (!seen<P>(at, tap, in, position)) continue;
        const T value = x[plane * pixels + position];
        if (!any || value > best || (value != value && best == best)) best = value, found = position;
        any = true;
      }
      if (P::column_major) {
        unravel(found, in, place);
        found = 0;
        for (std::size_t axis = S; axis-- > 0;) found = found * in[axis] + place[axis];
      }
      if (values) values[plane * positions + p] = best;
      if (indices) indices[plane * positions + p] = static_cast<std::int64_t>(plane * pixels + found);
    }
  }
}

/// The mean of each window of x[planes][in]; with P::count_include_pad padding counts as zeros.
template <class P, std::size_t S, class T>
void average_pool(std::size_t planes, const std::size_t (&in)[S], const std::size_t (&out)[S], const T* x,
                  T* y) {
  const std::size_t taps = count(P::kernel), positions = count(out), pixels = count(in);
  std::size_t at[S], tap[S], position;
  for (std::size_t plane = 0; plane < planes; ++plane) {
    for (std::size_t p = 0; p < positions; ++p) {
      unravel(p, out, at);
      double sum = 0;
      std::size_t number = 0;
      for (std::size_t t = 0; t < taps; ++t) {
        unravel(t, P::kernel, tap);
        const bool inside = seen<P>(at, tap, in, position);
        bool padding = P::count_include_pad;  // what a window sees behind the padding does not count
        for (std::size_t axis = 0; axis < S; ++axis) {
          const std::size_t end = P::pad_begin[axis] + in[axis] + P::pad_end[axis];
          padding = padding && at[axis] * P::stride[axis] + tap[axis] * P::dilation[axis] < end;
        }
        if (inside) sum += static_cast<double>(x[plane * pixels + position]);
        if (inside || padding) ++number;
      }
      y[plane * positions + p] = static_cast<T>(number ? sum / static_cast<double>(number) : sum);
    }
  }
}

/// (sum of |x|^P::p)^(1 / P::p) of each window of x[planes][in].
template <class P, std::size_t S, class T>
void lp_pool(std::size_t planes, const std::size_t (&in)[S], const std::size_t (&out)[S], const T* x, T* y) {
  const std::size_t taps = count(P::kernel), positions = count(out), pixels = count(in);
  std::size_t at[S], tap[S], position;
  for (std::size_t plane = 0; plane < planes; ++plane) {
    for (std::size_t p = 0; p < positions; ++p) {
      unravel(p, out, at);
      double sum = 0;
      for (std::size_t t = 0; t < taps; ++t) {
        unravel(t, P::kernel, tap);
        if (!seen<P>(at, tap, in, position)) continue;
        sum +=
            std::pow(std::fabs(static_cast<double>(x[plane * pixels + position])), static_cast<double>(P::p));
      }
      y[plane * positions + p] = static_cast<T>(std::pow(sum, 1. / static_cast<double>(P::p)));
    }
  }
}

}  // namespace SOFIE_ISA
}  // namespace sofie::reference
