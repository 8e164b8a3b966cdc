// Convolution of one to three spatial dimensions, NCHW, as an implicit matrix product.
//
// For float: a tile of output channels x vectors of output pixels stays in registers while all input channels
// and kernel taps pass; a tap is a vector loaded from the input at a fixed distance, so nothing is copied for
// each tap (no im2col). Padding and strides are taken care of beforehand: the input planes of a group are
// copied into the workspace with their padding, and split by the stride into phases (pixels of equal position
// modulo the stride), after which every tap reads consecutive pixels again. The last two dimensions run as
// one flat sequence; sums for the few pixels between the end of one row and the start of the next are
// computed and dropped, which wastes less than ending a vector at each row. For a few output channels, where
// loading the pixels would take longer than the arithmetic, tiles have several rows instead.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <type_traits>

#include "simd.hxx"

namespace sofie {
inline namespace SOFIE_ISA {

/// Output channels per block of packed weights. The weights W[O][C/g][k...] are stored as
/// [g][ceil(O/g / kConvBlock)][C/g][k...][kConvBlock], zero padded, on every instruction set. Those of a
/// transposed convolution, W[C][O/g][k...], are first brought into the order [g][O/g][C/g][k...] and then
/// packed alike.
constexpr std::size_t kConvBlock = 8;

/// Extent of the output along one dimension.
constexpr std::size_t conv_out(std::size_t in, std::size_t kernel, std::size_t stride, std::size_t dilation,
                               std::size_t pad_begin, std::size_t pad_end) {
  return (in + pad_begin + pad_end - dilation * (kernel - 1) - 1) / stride + 1;
}

namespace detail {

constexpr std::size_t kConvSlack =
    128;  // readable elements behind the planes in the workspace: the widest tile

/// The attributes P with three dimensions, missing leading ones added.
struct ConvShape {
  std::size_t kernel[3] = {1, 1, 1}, stride[3] = {1, 1, 1}, dilation[3] = {1, 1, 1}, pad[3] = {0, 0, 0};
  std::size_t in[3] = {1, 1, 1}, out[3] = {1, 1, 1};
  /// Extents of one phase: the positions that the taps of the outputs reach.
  std::size_t grid[3] = {1, 1, 1};

  constexpr std::size_t taps() const { return kernel[0] * kernel[1] * kernel[2]; }
  constexpr std::size_t in_plane() const { return in[0] * in[1] * in[2]; }
  constexpr std::size_t out_plane() const { return out[0] * out[1] * out[2]; }
  constexpr std::size_t grid_plane() const { return grid[0] * grid[1] * grid[2]; }
  constexpr std::size_t phases() const { return stride[0] * stride[1] * stride[2]; }
};

template <class P>
constexpr std::size_t conv_taps() {
  std::size_t n = 1;
  for (std::size_t d = 0; d < P::rank; ++d) n *= P::kernel[d];
  return n;
}

// True if the input is read through a padded copy.
template <class P>
constexpr bool conv_copies() {
  for (std::size_t d = 0; d < P::rank; ++d) {
    if (P::pad_begin[d] != 0 || P::pad_end[d] != 0 || P::stride[d] != 1) return true;
  }
  return false;
}

template <class P>
constexpr ConvShape conv_shape(const std::size_t (&in)[P::rank]) {
  ConvShape s;
  for (std::size_t d = 0; d < P::rank; ++d) {
    const std::size_t e = d + 3 - P::rank;
    s.kernel[e] = P::kernel[d];
    s.stride[e] = P::stride[d];
    s.dilation[e] = P::dilation[d];
    s.pad[e] = P::pad_begin[d];
    s.in[e] = in[d];
    s.out[e] = conv_out(in[d], P::kernel[d], P::stride[d], P::dilation[d], P::pad_begin[d], P::pad_end[d]);
    s.grid[e] = s.out[e] + P::dilation[d] * (P::kernel[d] - 1) / P::stride[d];
  }
  if (!conv_copies<P>() && s.taps() == 1) {  // pointwise: all pixels in one row
    s.in[2] = s.out[2] = s.grid[2] = s.in_plane();
    for (std::size_t d = 0; d < 2; ++d) s.in[d] = s.out[d] = s.grid[d] = 1;
  }
  return s;
}

// Distances from an output's position to what a tap reads, in x and in the packed weights.
struct ConvTap {
  std::size_t x, w;
};

// What a tile sums over: channels (x_step and w_step apart), then taps.
struct ConvSum {
  std::size_t channels, x_step, w_step, taps;
  const ConvTap* tap;
};

// sums[o][v] = sum over channels and taps of w[o] * x[v]: O output channels, V vectors of consecutive
// positions. Only the first n positions may be read if Masked.
template <std::size_t O, std::size_t V, bool Masked>
SOFIE_NOINLINE void conv_tile(const ConvSum& s, const float* x, const float* w, float* sums, std::size_t n) {
  f32v acc[O][V];
  SOFIE_UNROLL
  for (std::size_t o = 0; o < O; ++o) {
    SOFIE_UNROLL
    for (std::size_t v = 0; v < V; ++v) acc[o][v] = f32v{};
  }
  const ConvTap* const end = s.tap + s.taps;
  for (std::size_t c = 0; c < s.channels; ++c) {
    for (const ConvTap* t = s.tap; t != end; ++t) {
      f32v p[V];
      SOFIE_UNROLL
      for (std::size_t v = 0; v < V; ++v) {
        if constexpr (Masked) {
          p[v] = load(x + t->x, Partial{0, n});
        } else {
          p[v] = load(x + t->x, Full{v * kLanes});
        }
      }
      const float* weight = w + t->w;
      SOFIE_UNROLL
      for (std::size_t o = 0; o < O; ++o) {
        const f32v b = broadcast(weight[o]);
        SOFIE_UNROLL
        for (std::size_t v = 0; v < V; ++v) acc[o][v] = fma(b, p[v], acc[o][v]);
      }
    }
    x += s.x_step;
    w += s.w_step;
  }
  SOFIE_UNROLL
  for (std::size_t o = 0; o < O; ++o) {
    SOFIE_UNROLL
    for (std::size_t v = 0; v < V; ++v) store(sums + o * V * kLanes, Full{v * kLanes}, acc[o][v]);
  }
}

// The tiles for O output channels at a time, widest first.
struct ConvTiles {
  using Function = void (*)(const ConvSum&, const float*, const float*, float*, std::size_t);
  std::size_t rows;
  std::size_t width[3];
  Function tile[3];
  Function masked;
};
template <std::size_t O, std::size_t V0, std::size_t V1>
constexpr ConvTiles conv_tiles() {
  return {O,
          {V0, V1, 1},
          {&conv_tile<O, V0, false>, &conv_tile<O, V1, false>, &conv_tile<O, 1, false>},
          &conv_tile<O, 1, true>};
}
#if defined(SOFIE_ISA_AVX512)
constexpr std::size_t kConvRows = 8;
#else
constexpr std::size_t kConvRows = 4;
#endif
template <std::size_t O>
constexpr ConvTiles conv_tiles_for() {
#if defined(SOFIE_ISA_AVX512)
  if constexpr (O > 4) return conv_tiles<8, 3, 2>();
  if constexpr (O > 2 && O <= 4) return conv_tiles<4, 6, 3>();
#elif defined(SOFIE_ISA_AVX2)
  if constexpr (O > 2) return conv_tiles<4, 3, 2>();
#else
  if constexpr (O > 2) return conv_tiles<4, 2, 1>();
#endif
  if constexpr (O == 2) return conv_tiles<2, 4, 2>();
  if constexpr (O == 1) return conv_tiles<1, 8, 4>();
}

// Rows of outputs in the flat sequence: `pitch` positions apart, the first `columns` of which are outputs.
struct FlatRows {
  std::size_t rows, columns, pitch;
  constexpr std::size_t length() const {
    return rows == 0 || columns == 0 ? 0 : (rows - 1) * pitch + columns;
  }
};

// All sums of one group over a flat sequence of positions; sink(o, row, column, sums, n) gets runs of n
// outputs. With `slack`, x may be read beyond the last position.
template <std::size_t Outputs, class Sink>
SOFIE_INLINE inline void conv_flat(const ConvSum& s, const FlatRows& flat, bool slack, const float* x,
                                   const float* w, Sink&& sink) {
  constexpr std::size_t kTail = Outputs % kConvRows;
  static constexpr ConvTiles kPasses[2] = {conv_tiles_for<(Outputs < kConvRows ? Outputs : kConvRows)>(),
                                           conv_tiles_for<(kTail == 0 ? kConvRows : kTail)>()};
  alignas(64) float sums[8 * 3 * 16];
  static_assert(sizeof(sums) >= sizeof(float) * 8 * kLanes, "");
  const std::size_t length = flat.length();
  std::size_t o_begin = 0, o_end = Outputs < kConvRows ? Outputs : Outputs - kTail;
  for (std::size_t pass = 0; pass < 2 && o_begin < o_end; ++pass, o_begin = o_end, o_end = Outputs) {
    const ConvTiles& tiles = kPasses[pass];
    for (std::size_t f = 0, next; f < length; f = next) {
      const std::size_t left = length - f;
      // The widest tile, unless a narrower one covers the rest; never wider than what may be read.
      std::size_t i = 0;
      while (i < 2 && (left <= tiles.width[i + 1] * kLanes || (!slack && tiles.width[i] * kLanes > length)))
        ++i;
      const std::size_t width = tiles.width[i] * kLanes;
      // The last tile overlaps the one before rather than read beyond the end; what overlaps is not handed
      // on.
      const bool masked = !slack && width > length;
      const std::size_t start = slack || masked || width <= left ? f : length - width;
      next = start + width < length ? start + width : length;
      const auto tile = masked ? tiles.masked : tiles.tile[i];
      const std::size_t row = f / flat.pitch, column = f % flat.pitch;
      for (std::size_t o = o_begin; o < o_end; o += tiles.rows) {
        tile(s, x + start, w + o / kConvBlock * s.channels * s.w_step + o % kConvBlock, sums, length);
        const std::size_t rows = o_end - o < tiles.rows ? o_end - o : tiles.rows;
        for (std::size_t r = 0; r < rows; ++r) {
          const float* p = sums + r * width - start;
          for (std::size_t g = f, i1 = row, i2 = column; g < next; ++i1, i2 = 0) {
            const std::size_t in_row = i2 < flat.columns ? flat.columns - i2 : 0;
            if (in_row != 0) sink(o + r, i1, i2, p + g, in_row < next - g ? in_row : next - g);
            g += flat.pitch - i2;
          }
        }
      }
    }
  }
}

// For few output channels there are few sums per vector of inputs, and loading those takes longer than the
// arithmetic. A tile of kConvTall rows then loads each vector once for all the taps of a column of the
// kernel, whose weights stay in registers.
#if defined(SOFIE_ISA_AVX512)
constexpr std::size_t kConvTall = 8, kConvTallOutputs = 2;
#else
constexpr std::size_t kConvTall = 8, kConvTallOutputs = 1;
#endif

// Whether the kernel slides over the last two dimensions of a padded copy by steps of one, and is as long as
// is worth it and fits the registers.
template <class P>
constexpr bool conv_is_tall() {
  if (P::rank < 2 || !conv_copies<P>() || P::O / P::groups > kConvBlock) return false;
  constexpr std::size_t rows = P::rank < 2 ? 0 : P::rank - 2;
  for (std::size_t d = 0; d < P::rank; ++d) {
    if (P::stride[d] != 1 || P::dilation[d] != 1 || (d < rows && P::kernel[d] != 1)) return false;
  }
  return P::kernel[rows] >= 3 && P::kernel[rows] <= 5;
}

// sums[o][r] = sums over channels and K0 x k1 taps of w[o] * x[r]: O output channels, R rows `pitch` apart.
template <std::size_t O, std::size_t R, std::size_t K0>
SOFIE_NOINLINE void conv_tall_tile(std::size_t channels, std::size_t k1, const float* x, std::size_t plane,
                                   std::size_t pitch, const float* w, float* sums) {
  f32v acc[O][R];
  SOFIE_UNROLL
  for (std::size_t o = 0; o < O; ++o) {
    SOFIE_UNROLL
    for (std::size_t r = 0; r < R; ++r) acc[o][r] = f32v{};
  }
  for (std::size_t c = 0; c < channels; ++c, x += plane, w += K0 * k1 * kConvBlock) {
    for (std::size_t j = 0; j < k1; ++j) {
      f32v weight[K0][O];
      SOFIE_UNROLL
      for (std::size_t k = 0; k < K0; ++k) {
        SOFIE_UNROLL
        for (std::size_t o = 0; o < O; ++o) weight[k][o] = broadcast(w[(k * k1 + j) * kConvBlock + o]);
      }
      const float* row = x + j;
      SOFIE_UNROLL
      for (std::size_t i = 0; i < R + K0 - 1; ++i, row += pitch) {
        const f32v p = load(row, Full{0});
        SOFIE_UNROLL
        for (std::size_t k = 0; k < K0; ++k) {
          if (i < k || i - k >= R) continue;
          SOFIE_UNROLL
          for (std::size_t o = 0; o < O; ++o) acc[o][i - k] = fma(weight[k][o], p, acc[o][i - k]);
        }
      }
    }
  }
  SOFIE_UNROLL
  for (std::size_t o = 0; o < O; ++o) {
    SOFIE_UNROLL
    for (std::size_t r = 0; r < R; ++r) store(sums + (o * R + r) * kLanes, Full{0}, acc[o][r]);
  }
}

// All sums of one group, at least kConvTall rows; as conv_flat.
template <class P, class Sink>
SOFIE_INLINE inline void conv_tall(const ConvShape& s, const float* x, const float* w, Sink&& sink) {
  constexpr std::size_t kRows = P::kernel[P::rank < 2 ? 0 : P::rank - 2];
  constexpr std::size_t O = P::O / P::groups, C = P::C / P::groups;
  constexpr std::size_t kMany = O < kConvTallOutputs ? O : kConvTallOutputs;
  alignas(64) float sums[kMany * kConvTall * kLanes];
  for (std::size_t row = 0, next; row < s.out[1]; row = next) {
    // The last tile overlaps the one before; what overlaps is not handed on.
    const std::size_t start = row + kConvTall <= s.out[1] ? row : s.out[1] - kConvTall;
    next = start + kConvTall;
    for (std::size_t column = 0; column < s.out[2]; column += kLanes) {
      const std::size_t count = s.out[2] - column < kLanes ? s.out[2] - column : kLanes;
      const float* from = x + start * s.grid[2] + column;
      for (std::size_t o = 0; o < O; o += kMany) {
        std::size_t many = O - o < kMany ? O - o : kMany;
        if (many == kMany) {
          conv_tall_tile<kMany, kConvTall, kRows>(C, s.kernel[2], from, s.grid_plane(), s.grid[2], w + o,
                                                  sums);
        } else {
          conv_tall_tile<1, kConvTall, kRows>(C, s.kernel[2], from, s.grid_plane(), s.grid[2], w + o, sums);
        }
        for (std::size_t m = 0; m < many; ++m) {
          for (std::size_t r = row - start; r < kConvTall; ++r) {
            sink(o + m, start + r, column, sums + (m * kConvTall + r) * kLanes, count);
          }
        }
      }
    }
  }
}

// Whether any tap falls on the positions whose remainders modulo the strides are `rest`.
constexpr bool conv_reads_phase(const ConvShape& s, const std::size_t (&rest)[3]) {
  for (std::size_t d = 0; d < 3; ++d) {
    bool found = false;
    for (std::size_t k = 0; k < s.kernel[d]; ++k) found = found || k * s.dilation[d] % s.stride[d] == rest[d];
    if (!found) return false;
  }
  return true;
}

// Copies the planes of a group into the workspace, padded and split into the phases of the stride.
SOFIE_NOINLINE inline void conv_copy(const ConvShape& s, std::size_t channels, const float* x, float* work) {
  for (std::size_t c = 0; c < channels; ++c, x += s.in_plane()) {
    for (std::size_t phase = 0; phase < s.phases(); ++phase) {
      std::size_t rest[3] = {phase / s.stride[2] / s.stride[1], phase / s.stride[2] % s.stride[1],
                             phase % s.stride[2]};
      if (!conv_reads_phase(s, rest)) {  // a kernel smaller than the stride skips some
        work += s.grid_plane();
        continue;
      }
      // Positions [low, high) of each dimension lie inside the input; the others are padding.
      std::size_t low[3], high[3];
      for (std::size_t d = 0; d < 3; ++d) {
        const std::size_t step = s.stride[d], r = rest[d];
        low[d] = s.pad[d] > r ? (s.pad[d] - r + step - 1) / step : 0;
        high[d] = s.in[d] + s.pad[d] > r ? (s.in[d] + s.pad[d] - r + step - 1) / step : 0;
        if (high[d] > s.grid[d]) high[d] = s.grid[d];
        if (low[d] > high[d]) low[d] = high[d];
      }
      for (std::size_t i0 = 0; i0 < s.grid[0]; ++i0) {
        for (std::size_t i1 = 0; i1 < s.grid[1]; ++i1, work += s.grid[2]) {
          if (i0 < low[0] || i0 >= high[0] || i1 < low[1] || i1 >= high[1]) {
            for (std::size_t i = 0; i < s.grid[2]; ++i) work[i] = 0.f;
            continue;
          }
          const std::size_t y0 = i0 * s.stride[0] + rest[0] - s.pad[0],
                            y1 = i1 * s.stride[1] + rest[1] - s.pad[1];
          const float* row = x + (y0 * s.in[1] + y1) * s.in[2];
          for (std::size_t i = 0; i < low[2]; ++i) work[i] = 0.f;
          if (s.stride[2] == 1) {
            float* to = work + low[2];
            const float* from = row + low[2] - s.pad[2];
            map(high[2] - low[2], [&](auto j) SOFIE_INLINE { store(to, j, load(from, j)); });
          } else {
            std::size_t i = low[2];
            for (; s.stride[2] == 2 && i + kLanes <= high[2]; i += kLanes) {
              store(work, Full{i}, load_every_second(row + (2 * i + rest[2] - s.pad[2])));
            }
            for (; i < high[2]; ++i) work[i] = row[i * s.stride[2] + rest[2] - s.pad[2]];
          }
          for (std::size_t i = high[2]; i < s.grid[2]; ++i) work[i] = 0.f;
        }
      }
    }
  }
  for (std::size_t i = 0; i < kConvSlack; ++i) work[i] = 0.f;
}

SOFIE_NOINLINE inline void conv_find_taps(const ConvShape& s, ConvTap* tap) {
  std::size_t w = 0;
  for (std::size_t k0 = 0; k0 < s.kernel[0]; ++k0) {
    for (std::size_t k1 = 0; k1 < s.kernel[1]; ++k1) {
      for (std::size_t k2 = 0; k2 < s.kernel[2]; ++k2, w += kConvBlock, ++tap) {
        const std::size_t d0 = k0 * s.dilation[0], d1 = k1 * s.dilation[1], d2 = k2 * s.dilation[2];
        const std::size_t phase =
            (d0 % s.stride[0] * s.stride[1] + d1 % s.stride[1]) * s.stride[2] + d2 % s.stride[2];
        const std::size_t at =
            (d0 / s.stride[0] * s.grid[1] + d1 / s.stride[1]) * s.grid[2] + d2 / s.stride[2];
        *tap = {phase * s.grid_plane() + at, w};
      }
    }
  }
}

// Any other type: one output at a time.
template <class P, class T, class E>
void conv_plain(const ConvShape& s, std::size_t batch, const T* x, const T* packed_w, T* y, E& epilogue) {
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
            const std::size_t i = at[d] * s.stride[d] + k[d] * s.dilation[d];
            inside = inside && i >= s.pad[d] && i - s.pad[d] < s.in[d];
            from = from * s.in[d] + (i - s.pad[d]);
          }
          if (inside) sum = fma(plane[from], w[(c * kTaps + t) * kConvBlock], sum);
        }
      }
      store(y + no * s.out_plane(), Scalar{p}, epilogue(sum, n, o, Scalar{p}));
    }
  }
}

}  // namespace detail

/// Elements of workspace that conv<P> needs: 0 without padding and strides, else
/// C/g * prod_d(stride_d * (out_d + dilation_d * (kernel_d - 1) / stride_d)) + 128, divisions rounding down.
template <class P>
constexpr std::size_t conv_workspace(const std::size_t (&in)[P::rank]) {
  if (!detail::conv_copies<P>()) return 0;
  const detail::ConvShape s = detail::conv_shape<P>(in);
  return P::C / P::groups * s.phases() * s.grid_plane() + detail::kConvSlack;
}

/// y[n][o][p] = epilogue(sum of w * x, n, o, p), p running over the flattened output positions.
///
/// P holds the attributes as static constexpr members: rank, C and O (channels of all groups), groups, and
/// the arrays kernel, stride, dilation, pad_begin, pad_end. The epilogue gets a vector and a Full or Partial
/// p for float, a T and a Scalar p for other types. Each image is computed alike, whatever the batch.
/// @param packed_w see kConvBlock.
/// @param workspace conv_workspace<P>(in) elements, overwritten.
template <class P, class T, class E>
void conv(std::size_t batch, const std::size_t (&in)[P::rank], const T* x, const same<T>* packed_w,
          same<T>* y, same<T>* workspace, E epilogue) {
  const detail::ConvShape s = detail::conv_shape<P>(in);
  if constexpr (std::is_same<T, float>::value) {
    constexpr std::size_t C = P::C / P::groups, O = P::O / P::groups;
    constexpr std::size_t kTaps = detail::conv_taps<P>();
    constexpr std::size_t kBlocks = (O + kConvBlock - 1) / kConvBlock;
    detail::ConvTap tap[kTaps];
    detail::conv_find_taps(s, tap);
    const std::size_t plane = s.phases() * s.grid_plane();
    const detail::ConvSum sum{C, plane, kTaps * kConvBlock, kTaps, tap};
    const detail::FlatRows flat{s.out[1], s.out[2], s.grid[2]};
    for (std::size_t n = 0; n < batch; ++n) {
      for (std::size_t g = 0; g < P::groups; ++g) {
        const float* from = x + (n * P::C + g * C) * s.in_plane();
        if constexpr (detail::conv_copies<P>()) {
          detail::conv_copy(s, C, from, workspace);
          from = workspace;
        }
        const float* w = packed_w + g * kBlocks * C * kTaps * kConvBlock;
        for (std::size_t i0 = 0; i0 < s.out[0]; ++i0) {
          const auto sink = [&](std::size_t o, std::size_t row, std::size_t column, const float* sums,
                                std::size_t count) SOFIE_INLINE {
            const std::size_t p = (i0 * s.out[1] + row) * s.out[2] + column, channel = g * O + o;
            float* to = y + (n * P::O + channel) * s.out_plane();
            map(count, [&](auto j) SOFIE_INLINE {
              auto k = j;
              k.i += p;
              store(to, k, epilogue(load(sums, j), n, channel, k));
            });
          };
          if constexpr (detail::conv_is_tall<P>()) {
            if (s.out[1] >= detail::kConvTall) {
              detail::conv_tall<P>(s, from + i0 * s.grid[1] * s.grid[2], w, sink);
              continue;
            }
          }
          detail::conv_flat<O>(sum, flat, detail::conv_copies<P>(), from + i0 * s.grid[1] * s.grid[2], w,
                               sink);
        }
      }
    }
  } else {
    static_cast<void>(workspace);
    detail::conv_plain<P>(s, batch, x, packed_w, y, epilogue);
  }
}

}  // namespace SOFIE_ISA
}  // namespace sofie
