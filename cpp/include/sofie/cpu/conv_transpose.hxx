// Transposed convolution of one to three spatial dimensions, NCHW.
//
// Output pixels of equal position modulo the stride (a phase) see the same subset of the kernel's taps, and
// the pixels of one phase are an ordinary convolution of stride 1 of the input with that subset: the tiles of
// conv.hxx do the work, without the zeros of the textbook's dilated input.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <type_traits>

#include "conv.hxx"
#include "simd.hxx"

namespace sofie {
inline namespace SOFIE_ISA {

namespace detail {

// As conv_shape; `grid` is the input padded such that every tap of every output falls inside.
template <class P>
constexpr ConvShape conv_transpose_shape(const std::size_t (&in)[P::rank],
                                         const std::size_t (&out)[P::rank]) {
  ConvShape s;
  for (std::size_t d = 0; d < P::rank; ++d) {
    const std::size_t e = d + 3 - P::rank;
    s.kernel[e] = P::kernel[d];
    s.stride[e] = P::stride[d];
    s.dilation[e] = P::dilation[d];
    s.pad[e] = P::pad_begin[d];
    s.in[e] = in[d];
    s.out[e] = out[d];
    s.grid[e] = P::dilation[d] * (P::kernel[d] - 1) / P::stride[d] +
                (out[d] + P::pad_begin[d] - 1) / P::stride[d] + 1;
  }
  return s;
}

// Zeros in front of the input along dimension d.
constexpr std::size_t conv_transpose_front(const ConvShape& s, std::size_t d) {
  return s.dilation[d] * (s.kernel[d] - 1) / s.stride[d];
}

// One output at a time; weights packed alike.
template <class P, class T, class E>
void conv_transpose_plain(const ConvShape& s, std::size_t batch, const T* x, const T* packed_w, T* y,
                          E& epilogue) {
  constexpr std::size_t C = P::C / P::groups, O = P::O / P::groups;
  constexpr std::size_t kTaps = conv_taps<P>();
  constexpr std::size_t kBlocks = (O + kConvBlock - 1) / kConvBlock;
  for (std::size_t no = 0; no < batch * P::O; ++no) {
    const std::size_t n = no / P::O, o = no % P::O, g = o / O;
    const T* w = packed_w + (g * kBlocks + o % O / kConvBlock) * C * kTaps * kConvBlock + o % O % kConvBlock;
    for (std::size_t p = 0; p < s.out_plane(); ++p) {
      const std::size_t at[3] = {p / s.out[2] / s.out[1], p / s.out[2] % s.out[1], p % s.out[2]};
      T sum = T(0);
      for (std::size_t c = 0; c < C; ++c) {
        const T* plane = x + (n * P::C + g * C + c) * s.in_plane();
        for (std::size_t t = 0; t < kTaps; ++t) {
          const std::size_t k[3] = {t / s.kernel[2] / s.kernel[1], t / s.kernel[2] % s.kernel[1],
                                    t % s.kernel[2]};
          std::size_t from = 0;
          bool inside = true;
          for (std::size_t d = 0; d < 3; ++d) {
            const std::size_t u = at[d] + s.pad[d], shift = k[d] * s.dilation[d];
            inside =
                inside && u >= shift && (u - shift) % s.stride[d] == 0 && (u - shift) / s.stride[d] < s.in[d];
            from = from * s.in[d] + (u - shift) / s.stride[d];
          }
          if (inside) sum = fma(plane[from], w[(c * kTaps + t) * kConvBlock], sum);
        }
      }
      store(y + no * s.out_plane(), Scalar{p}, epilogue(sum, n, o, Scalar{p}));
    }
  }
}

}  // namespace detail

/// Elements of workspace that conv_transpose<P> needs:
/// C/g * prod_d(grid_d) + 128 + O/g * prod_d(out_d), where
/// grid_d = dilation_d * (kernel_d - 1) / stride_d + (out_d + pad_begin_d - 1) / stride_d + 1, rounding down.
template <class P>
constexpr std::size_t conv_transpose_workspace(const std::size_t (&in)[P::rank],
                                               const std::size_t (&out)[P::rank]) {
  const detail::ConvShape s = detail::conv_transpose_shape<P>(in, out);
  return P::C / P::groups * s.grid_plane() + detail::kConvSlack + P::O / P::groups * s.out_plane();
}

/// y[n][o][out] = epilogue(sum of w[o][k] * x[in] with out = in * stride + k * dilation - pad_begin, n, o,
/// p).
///
/// P as for conv (pad_end is not read); the output's extents are explicit, so that they carry output_padding
/// and output_shape.
/// @param packed_w see kConvBlock.
/// @param workspace conv_transpose_workspace<P>(in, out) elements, overwritten.
template <class P, class T, class E>
void conv_transpose(std::size_t batch, const std::size_t (&in)[P::rank], const std::size_t (&out)[P::rank],
                    const T* x, const same<T>* packed_w, same<T>* y, same<T>* workspace, E epilogue) {
  using namespace detail;
  const ConvShape s = conv_transpose_shape<P>(in, out);
  if constexpr (!std::is_same<T, float>::value) {
    static_cast<void>(workspace);
    conv_transpose_plain<P>(s, batch, x, packed_w, y, epilogue);
  } else {
    constexpr std::size_t C = P::C / P::groups, O = P::O / P::groups;
    constexpr std::size_t kTaps = conv_taps<P>();
    constexpr std::size_t kBlocks = (O + kConvBlock - 1) / kConvBlock;
    if (s.out_plane() == 0) return;
    // The padded copy is conv's, for a convolution of stride 1 padded by `front`.
    ConvShape padded = s;
    for (std::size_t d = 0; d < 3; ++d) {
      padded.stride[d] = 1;
      padded.pad[d] = conv_transpose_front(s, d);
    }
    float* const sums = workspace + C * s.grid_plane() + kConvSlack;
    ConvTap tap[kTaps];
    for (std::size_t ng = 0; ng < batch * P::groups; ++ng) {
      const std::size_t n = ng / P::groups, g = ng % P::groups;
      conv_copy(padded, C, x + ng * C * s.in_plane(), workspace);
      const float* w = packed_w + g * kBlocks * C * kTaps * kConvBlock;
      for (std::size_t phase = 0; phase < s.phases(); ++phase) {
        const std::size_t r[3] = {phase / s.stride[2] / s.stride[1], phase / s.stride[2] % s.stride[1],
                                  phase % s.stride[2]};
        // Outputs of this phase: out + pad = m * stride + r for m in [first, first + count).
        std::size_t first[3], count[3];
        for (std::size_t d = 0; d < 3; ++d) {
          first[d] = s.pad[d] > r[d] ? (s.pad[d] - r[d] + s.stride[d] - 1) / s.stride[d] : 0;
          const std::size_t end =
              s.out[d] + s.pad[d] > r[d] ? (s.out[d] + s.pad[d] - r[d] + s.stride[d] - 1) / s.stride[d] : 0;
          count[d] = end > first[d] ? end - first[d] : 0;
        }
        std::size_t taps = 0;
        for (std::size_t t = 0; t < kTaps; ++t) {
          const std::size_t k[3] = {t / s.kernel[2] / s.kernel[1], t / s.kernel[2] % s.kernel[1],
                                    t % s.kernel[2]};
          std::size_t at = 0;
          bool ours = true;
          for (std::size_t d = 0; d < 3; ++d) {
            const std::size_t shift = k[d] * s.dilation[d];
            ours = ours && shift % s.stride[d] == r[d];
            at = at * s.grid[d] + padded.pad[d] - shift / s.stride[d];
          }
          if (ours) tap[taps++] = {at, t * kConvBlock};
        }
        const ConvSum sum{C, s.grid_plane(), kTaps * kConvBlock, taps, tap};
        const FlatRows flat{count[1], count[2], s.grid[2]};
        for (std::size_t m0 = 0; m0 < count[0]; ++m0) {
          const float* from = workspace + ((first[0] + m0) * s.grid[1] + first[1]) * s.grid[2] + first[2];
          const std::size_t p0 = (first[0] + m0) * s.stride[0] + r[0] - s.pad[0];
          conv_flat<O>(
              sum, flat, true, from, w,
              [&](std::size_t o, std::size_t row, std::size_t column, const float* v, std::size_t length) {
                const std::size_t p1 = (first[1] + row) * s.stride[1] + r[1] - s.pad[1];
                const std::size_t p2 = (first[2] + column) * s.stride[2] + r[2] - s.pad[2];
                float* to = sums + ((o * s.out[0] + p0) * s.out[1] + p1) * s.out[2] + p2;
                for (std::size_t i = 0; i < length; ++i) to[i * s.stride[2]] = v[i];
              });
        }
      }
      for (std::size_t o = 0; o < O; ++o) {
        const std::size_t channel = g * O + o;
        float* to = y + (n * P::O + channel) * s.out_plane();
        map(s.out_plane(), [&](auto p) SOFIE_INLINE {
          store(to, p, epilogue(load(sums + o * s.out_plane(), p), n, channel, p));
        });
      }
    }
  }
}

}  // namespace SOFIE_ISA
}  // namespace sofie
