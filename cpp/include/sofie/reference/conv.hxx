// Convolutions, element by element of the result.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>

#include "window.hxx"

namespace sofie::reference {
inline namespace SOFIE_ISA {

/// y[batch][outputs][out] = x[batch][channels][in] convolved with w[outputs][channels / P::groups][kernel].
template <class P, std::size_t S, class T>
void conv(std::size_t batch, std::size_t channels, std::size_t outputs, const std::size_t (&in)[S],
          const std::size_t (&out)[S], const T* x, const T* w, T* y) {
  const std::size_t taps = count(P::kernel), positions = count(out), pixels = count(in);
  const std::size_t depth = channels / P::groups, features = outputs / P::groups;
  std::size_t at[S], tap[S], position;
  for (std::size_t n = 0; n < batch; ++n) {
    for (std::size_t o = 0; o < outputs; ++o) {
      const T* image = x + (n * channels + o / features * depth) * pixels;
      for (std::size_t p = 0; p < positions; ++p) {
        unravel(p, out, at);
        Sum<T> sum = 0;
        for (std::size_t t = 0; t < taps; ++t) {
          unravel(t, P::kernel, tap);
          if (!seen<P>(at, tap, in, position)) continue;
          for (std::size_t c = 0; c < depth; ++c) {
            sum += static_cast<Sum<T>>(image[c * pixels + position]) *
                   static_cast<Sum<T>>(w[(o * depth + c) * taps + t]);
          }
        }
        y[(n * outputs + o) * positions + p] = static_cast<T>(sum);
      }
    }
  }
}

/// y[batch][outputs][out] = x[batch][channels][in] spread through w[channels][outputs / P::groups][kernel]:
/// element i of x adds to the elements i * stride + tap * dilation - pad_begin of y.
template <class P, std::size_t S, class T>
void conv_transpose(std::size_t batch, std::size_t channels, std::size_t outputs, const std::size_t (&in)[S],
                    const std::size_t (&out)[S], const T* x, const T* w, T* y) {
  const std::size_t taps = count(P::kernel), positions = count(out), pixels = count(in);
  const std::size_t depth = channels / P::groups, features = outputs / P::groups;
  std::size_t at[S], tap[S];
  for (std::size_t n = 0; n < batch; ++n) {
    for (std::size_t o = 0; o < outputs; ++o) {
      const std::size_t first = o / features * depth;
      for (std::size_t p = 0; p < positions; ++p) {
        unravel(p, out, at);
        Sum<T> sum = 0;
        for (std::size_t t = 0; t < taps; ++t) {
          unravel(t, P::kernel, tap);
          std::size_t position = 0;
          bool reached = true;
          for (std::size_t axis = 0; axis < S; ++axis) {
            const std::size_t end = at[axis] + P::pad_begin[axis], begin = tap[axis] * P::dilation[axis];
            const std::size_t i = (end - begin) / P::stride[axis];
            reached = reached && end >= begin && (end - begin) % P::stride[axis] == 0 && i < in[axis];
            position = position * in[axis] + i;
          }
          for (std::size_t c = 0; reached && c < depth; ++c) {
            sum += static_cast<Sum<T>>(x[(n * channels + first + c) * pixels + position]) *
                   static_cast<Sum<T>>(w[((first + c) * features + o % features) * taps + t]);
          }
        }
        y[(n * outputs + o) * positions + p] = static_cast<T>(sum);
      }
    }
  }
}

/// y = (x - x_zero) convolved with (w - w_zero) in 32 bits, which wrap around; padding adds nothing.
/// @param w_step 1 where each output channel has a zero point of its own, else 0.
template <class P, std::size_t S, class X, class W>
void integer_conv(std::size_t batch, std::size_t channels, std::size_t outputs, const std::size_t (&in)[S],
                  const std::size_t (&out)[S], const X* x, const std::int32_t* x_zero, const W* w,
                  const std::int32_t* w_zero, std::size_t w_step, std::int32_t* y) {
  const std::size_t taps = count(P::kernel), positions = count(out), pixels = count(in);
  const std::size_t depth = channels / P::groups, features = outputs / P::groups;
  std::size_t at[S], tap[S], position;
  for (std::size_t n = 0; n < batch; ++n) {
    for (std::size_t o = 0; o < outputs; ++o) {
      const X* image = x + (n * channels + o / features * depth) * pixels;
      for (std::size_t p = 0; p < positions; ++p) {
        unravel(p, out, at);
        std::int32_t sum = 0;
        for (std::size_t t = 0; t < taps; ++t) {
          unravel(t, P::kernel, tap);
          if (!seen<P>(at, tap, in, position)) continue;
          for (std::size_t c = 0; c < depth; ++c) {
            sum = add(sum, mul(sub<std::int32_t>(image[c * pixels + position], *x_zero),
                               sub<std::int32_t>(w[(o * depth + c) * taps + t], w_zero[o * w_step])));
          }
        }
        y[(n * outputs + o) * positions + p] = sum;
      }
    }
  }
}

}  // namespace SOFIE_ISA
}  // namespace sofie::reference
