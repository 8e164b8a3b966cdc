// Convolution of 8-bit integers in one to three dimensions, NCHW, exact in 32 bits, with an epilogue.
//
// The channels of a group are brought into the order [C/4][pixels][4], padded, so that four channels of a
// pixel are one 32-bit lane. For a few output positions at a time what their taps see is then copied as a
// matrix [taps * C/4][positions][4] that stays in the caches, and multiplied by the weights with the tiles of
// integer_gemm.hxx (x unsigned, weights signed; zero points as there).
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "integer_gemm.hxx"
#include "simd.hxx"
#include "simd_integer.hxx"

namespace sofie {
inline namespace SOFIE_ISA {

/// Widest block of output positions on any instruction set; sizes the workspace.
constexpr std::size_t kIntegerConvBlock = 32;

namespace detail {

static_assert(kIntegerCols <= kIntegerConvBlock, "room for a block");

// The attributes P with three dimensions, missing leading ones added. `plane` is what the taps of all outputs
// reach.
struct IntegerConvShape {
  std::size_t kernel[3] = {1, 1, 1}, stride[3] = {1, 1, 1}, dilation[3] = {1, 1, 1}, pad[3] = {0, 0, 0};
  std::size_t in[3] = {1, 1, 1}, out[3] = {1, 1, 1}, plane[3] = {1, 1, 1};
  bool pointwise = true;  // the planes are what the taps see

  std::size_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }
  std::size_t in_size() const { return in[0] * in[1] * in[2]; }
  std::size_t out_size() const { return out[0] * out[1] * out[2]; }
  std::size_t plane_size() const { return plane[0] * plane[1] * plane[2]; }
};

template <class P>
inline IntegerConvShape integer_conv_shape(const std::size_t (&in)[P::rank],
                                           const std::size_t (&out)[P::rank]) {
  IntegerConvShape s;
  for (std::size_t d = 0; d < P::rank; ++d) {
    const std::size_t e = d + 3 - P::rank;
    s.kernel[e] = P::kernel[d];
    s.stride[e] = P::stride[d];
    s.dilation[e] = P::dilation[d];
    s.pad[e] = P::pad_begin[d];
    s.in[e] = in[d];
    s.out[e] = out[d];
    s.plane[e] = out[d] == 0 ? 0 : (out[d] - 1) * P::stride[d] + P::dilation[d] * (P::kernel[d] - 1) + 1;
    s.pointwise = s.pointwise && P::stride[d] == 1 && P::kernel[d] == 1 && in[d] == out[d];
  }
  if (s.pointwise) {  // all pixels in one row
    s.in[2] = s.out[2] = s.plane[2] = s.in_size();
    for (std::size_t d = 0; d < 2; ++d) s.in[d] = s.out[d] = s.plane[d] = 1;
  }
  return s;
}

// to[i] = the bytes x[i], x[i + step], ... of up to four channels in one word, made unsigned.
template <class X>
SOFIE_NOINLINE void interleave_channels(std::size_t n, const X* x, std::size_t step, std::size_t channels,
                                        std::uint32_t* to) {
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(x);
  const std::uint32_t signs = std::is_signed<X>::value ? 0x80808080u >> (8 * (4 - channels)) : 0;
  map(n, [&](auto j) SOFIE_INLINE {
    u32v words = repeat(signs);
    for (std::size_t c = 0; c < channels; ++c) {
      words ^= (u32v)load(bytes + c * step, j).lanes << static_cast<int>(8 * c);
    }
    store(reinterpret_cast<std::int32_t*>(to), j, Integers<std::int32_t>{(i32v)words});
  });
}

// The planes [ceil(channels / 4)][plane] of one image and group.
template <class X>
SOFIE_NOINLINE void fill_planes(const IntegerConvShape& s, std::size_t channels, const X* x,
                                std::uint32_t zero, std::uint32_t* to) {
  for (std::size_t c = 0; c < channels; c += 4) {
    const std::size_t count = channels - c < 4 ? channels - c : 4;
    const std::uint32_t padding = (zero & 0xff) * (0x01010101u >> (8 * (4 - count)));
    for (std::size_t i = 0; i < s.plane[0]; ++i) {
      for (std::size_t j = 0; j < s.plane[1]; ++j, to += s.plane[2]) {
        // Below the padding this wraps around to numbers beyond the input.
        const std::size_t z = i - s.pad[0], y = j - s.pad[1];
        std::size_t begin = s.plane[2], end = s.plane[2];
        if (z < s.in[0] && y < s.in[1] && s.pad[2] < s.plane[2]) {
          begin = s.pad[2];
          end = s.plane[2] - begin < s.in[2] ? s.plane[2] : begin + s.in[2];
          interleave_channels(end - begin, x + (c * s.in[0] * s.in[1] + z * s.in[1] + y) * s.in[2],
                              s.in_size(), count, to + begin);
        }
        for (std::size_t k = 0; k < begin; ++k) to[k] = padding;
        for (std::size_t k = end; k < s.plane[2]; ++k) to[k] = padding;
      }
    }
  }
}

// What the taps of `count` outputs from `first` on see: [taps * quads][kIntegerCols] words. Whole vectors are
// copied; what is too much of one is overwritten by the next.
SOFIE_NOINLINE inline void gather_taps(const IntegerConvShape& s, std::size_t quads,
                                       const std::uint32_t* planes, std::size_t first, std::size_t count,
                                       std::uint32_t* to) {
  struct Run {
    const std::uint32_t* from;
    std::size_t to, count;
  } runs[kIntegerCols];
  std::size_t n = 0;
  for (std::size_t p = first; p < first + count; p += runs[n++].count) {
    const std::size_t x = p % s.out[2], y = p / s.out[2] % s.out[1], z = p / s.out[2] / s.out[1];
    const std::size_t left = first + count - p, row = s.out[2] - x;
    runs[n].from = planes + ((z * s.stride[0] * s.plane[1] + y * s.stride[1]) * s.plane[2] + x * s.stride[2]);
    runs[n].to = p - first;
    runs[n].count = left < row ? left : row;
  }
  for (std::size_t i = 0; i < s.kernel[0]; ++i) {
    for (std::size_t j = 0; j < s.kernel[1]; ++j) {
      for (std::size_t k = 0; k < s.kernel[2]; ++k) {
        std::size_t shift =
            (i * s.dilation[0] * s.plane[1] + j * s.dilation[1]) * s.plane[2] + k * s.dilation[2];
        for (std::size_t c = 0; c < quads; ++c, shift += s.plane_size(), to += kIntegerCols) {
          for (const Run* run = runs; run != runs + n; ++run) {
            const std::uint32_t* const from = run->from + shift;
            if (s.stride[2] == 1) {
              for (std::size_t l = 0; l < run->count; l += kLanes)
                std::memcpy(to + run->to + l, from + l, sizeof(u32v));
            } else if (s.stride[2] == 2) {
              for (std::size_t l = 0; l < run->count; l += kLanes) {
                const f32v words = load_every_second(reinterpret_cast<const float*>(from + 2 * l));
                std::memcpy(to + run->to + l, &words, sizeof words);
              }
            } else {
              for (std::size_t l = 0; l < run->count; ++l) to[run->to + l] = from[l * s.stride[2]];
            }
          }
        }
      }
    }
  }
}

// Sums of the bytes of each position.
SOFIE_NOINLINE inline void sum_taps(std::size_t steps, const std::uint32_t* taps, std::size_t step,
                                    std::uint32_t* sums) {
  u32v acc[2] = {};
  for (std::size_t i = 0; i < steps; ++i, taps += step) {
    SOFIE_UNROLL
    for (std::size_t v = 0; v < 2; ++v)
      acc[v] = dot4(acc[v], load_bytes(taps + v * kLanes), repeat(0x01010101u));
  }
  std::memcpy(sums, acc, sizeof acc);
}

}  // namespace detail

/// y[n][o][p] = epilogue(sum_{c, tap} (x[n][c][p, tap] - zx) (w[o][c][tap] - zw[o]), n, o, p), beyond the
/// input x - zx being 0.
///
/// P has rank, C, O, groups, kernel, stride, dilation and pad_begin. The epilogue gets Integers<std::int32_t>
/// and a Full or Partial p; it returns a vector or a number that can be stored to y.
/// @param x bytes of either sign.
/// @param zx one number.
/// @param w weights as signed bytes [O][taps][C/g], C/g zero padded to a multiple of 4.
/// @param w_sums sum_{c, tap} (w[o][c][tap] - zw[o]).
/// @param zw zero point of each output channel; null if all are 0.
/// @param workspace ceil(C/g / 4) * (plane + taps * kIntegerConvBlock) + 2 * kIntegerConvBlock elements,
///     with plane the product of (out - 1) * stride + dilation * (kernel - 1) + 1.
template <class P, class B, class X, class Y, class E>
void integer_conv(B batch, const std::size_t (&in)[P::rank], const std::size_t (&out)[P::rank], const X* x,
                  const std::int32_t* zx, const std::int8_t* w, const std::int32_t* w_sums,
                  const std::int32_t* zw, Y* y, std::uint32_t* workspace, E epilogue) {
  using namespace detail;
  constexpr std::size_t channels = P::C / P::groups, outputs = P::O / P::groups;
  constexpr std::size_t quads = (channels + 3) / 4;
  const IntegerConvShape s = integer_conv_shape<P>(in, out);
  const std::size_t positions = s.out_size(), steps = s.taps() * quads;
  const std::uint32_t zero = static_cast<std::uint32_t>(*zx) + (std::is_signed<X>::value ? 128u : 0u);
  // Whole vectors of the planes are copied, which may reach beyond their end; vectors of taps are aligned.
  std::uint32_t* const taps = workspace + (quads * s.plane_size() + 3 * kLanes - 1) / kLanes * kLanes;
  const std::size_t ldb = s.pointwise ? s.plane_size() : kIntegerCols;
  alignas(64) std::int32_t sums[kIntegerBlockRows * kIntegerCols];
  alignas(64) std::uint32_t seen[kIntegerCols];
  for (std::size_t n = 0; n < batch; ++n) {
    for (std::size_t g = 0; g < P::groups; ++g, x += channels * s.in_size()) {
      fill_planes(s, channels, x, zero, workspace);
      for (std::size_t first = 0; first < positions; first += kIntegerCols) {
        const std::size_t count = positions - first < kIntegerCols ? positions - first : kIntegerCols;
        if (!s.pointwise) gather_taps(s, quads, workspace, first, count, taps);
        const std::uint32_t* const words = s.pointwise ? workspace + first : taps;
        const auto* const b = reinterpret_cast<const std::uint8_t*>(words);
        if (zw != nullptr) sum_taps(steps, words, ldb, seen);
        for (std::size_t block = 0; block < outputs; block += kIntegerBlockRows) {
          const std::size_t rows = outputs - block < kIntegerBlockRows ? outputs - block : kIntegerBlockRows;
          const std::size_t begin = g * outputs + block;
          const std::int8_t* const weights = w + begin * steps * 4;
          if (count > kLanes) {
            integer_strip<2>(rows, steps, weights, steps * 4, b, b + 4 * kLanes, 4 * ldb, sums);
          } else {
            integer_strip<1>(rows, steps, weights, steps * 4, b, b, 4 * ldb, sums);
          }
          const auto all_rows = [&](auto p) SOFIE_INLINE {
            const std::size_t j = p.i - first;
            for (std::size_t r = 0; r < rows; ++r) {
              const std::size_t o = begin + r;
              u32v sum = load_bytes(sums + r * kIntegerCols + j) -
                         repeat(zero * static_cast<std::uint32_t>(w_sums[o]));
              if (zw != nullptr) sum -= static_cast<std::uint32_t>(zw[o]) * load_bytes(seen + j);
              store(y + (n * P::O + o) * positions, p, epilogue(Integers<std::int32_t>{(i32v)sum}, n, o, p));
            }
          };
          for (std::size_t j = 0; j < count; j += kLanes) {
            if (j + kLanes <= count) {
              all_rows(Full{first + j});
            } else {
              all_rows(Partial{first + j, count - j});
            }
          }
        }
      }
    }
  }
}

}  // namespace SOFIE_ISA
}  // namespace sofie
