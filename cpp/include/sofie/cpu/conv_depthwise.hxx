// Depthwise convolution of one to three spatial dimensions with the channels last: every channel of
// x[N][spatial][C] has a filter of its own, so vectors run along the channels and nothing is copied or
// padded; taps that fall on padding are left out. Bound by memory: a few neighbouring positions go together,
// which share the weights that they load.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>

#include "conv.hxx"
#include "pool.hxx"
#include "simd.hxx"

namespace sofie {
inline namespace SOFIE_ISA {

/// y[n][p][c] = epilogue(sum over taps of w[tap][c] * x, i, c), p running over the flattened output positions
/// and i over those of all images.
///
/// P holds the attributes as static constexpr members: rank, C, and the arrays kernel, stride, dilation,
/// pad_begin and pad_end. The epilogue gets a vector and a Full or Partial c.
template <class P, class E>
void conv_depthwise(std::size_t batch, const std::size_t (&in)[P::rank], const float* x, const float* w,
                    float* y, E epilogue) {
  using namespace detail;
  constexpr std::size_t C = P::C, kTogether = 4;
  std::size_t out[P::rank];
  for (std::size_t d = 0; d < P::rank; ++d) {
    out[d] = conv_out(in[d], P::kernel[d], P::stride[d], P::dilation[d], P::pad_begin[d], P::pad_end[d]);
  }
  const PoolShape s = pool_shape<P>(in, out);
  const std::size_t column = C, row = s.in[2] * column, plane = s.in[1] * row;
  const auto first_tap = [&](const PoolWindow& window, std::size_t d, std::size_t o) {
    return window.count == 0 ? 0 : (window.begin + s.pad[d] - o * s.stride[d]) / s.dilation[d];
  };
  std::size_t i = 0;
  for (std::size_t n = 0; n < batch; ++n, x += s.in[0] * plane) {
    for (std::size_t o0 = 0; o0 < s.out[0]; ++o0) {
      const PoolWindow w0 = pool_window(s, 0, o0);
      const std::size_t t0 = first_tap(w0, 0, o0);
      for (std::size_t o1 = 0; o1 < s.out[1]; ++o1) {
        const PoolWindow w1 = pool_window(s, 1, o1);
        const std::size_t t1 = first_tap(w1, 1, o1);
        for (std::size_t o2 = 0; o2 < s.out[2];) {
          const PoolWindow w2 = pool_window(s, 2, o2);
          const std::size_t t2 = first_tap(w2, 2, o2);
          const auto positions = [&](auto count) SOFIE_INLINE {
            constexpr std::size_t kCount = decltype(count)::value;
            map(fixed<C>{}, [&](auto j) SOFIE_INLINE {
              f32v sums[kCount];
              SOFIE_UNROLL
              for (std::size_t k = 0; k < kCount; ++k) sums[k] = f32v{};
              for (std::size_t a = 0; a < w0.count; ++a) {
                for (std::size_t b = 0; b < w1.count; ++b) {
                  const float* from = x + (w0.begin + a * s.dilation[0]) * plane +
                                      (w1.begin + b * s.dilation[1]) * row + w2.begin * column;
                  const float* weight = w + (((t0 + a) * s.kernel[1] + t1 + b) * s.kernel[2] + t2) * C;
                  for (std::size_t c = 0; c < w2.count; ++c) {
                    const f32v v = load(weight, j);
                    SOFIE_UNROLL
                    for (std::size_t k = 0; k < kCount; ++k) {
                      sums[k] = fma(load(from + k * s.stride[2] * column, j), v, sums[k]);
                    }
                    from += s.dilation[2] * column;
                    weight += C;
                  }
                }
              }
              SOFIE_UNROLL
              for (std::size_t k = 0; k < kCount; ++k) {
                store(y + (i + k) * C, j, epilogue(sums[k], i + k, j));
              }
            });
            o2 += kCount;
            i += kCount;
          };
          // Together as long as the windows of the first and the last one lie inside.
          if (o2 + kTogether <= s.out[2] && w2.count == s.kernel[2] &&
              pool_window(s, 2, o2 + kTogether - 1).count == s.kernel[2]) {
            positions(fixed<kTogether>{});
          } else {
            positions(fixed<1>{});
          }
        }
      }
    }
  }
}

}  // namespace SOFIE_ISA
}  // namespace sofie
