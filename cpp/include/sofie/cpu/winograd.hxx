// Convolution of channels-last images with fewer multiplications: Winograd's minimal filtering F(m, r), which
// computes m outputs of an r-tap filter from n = m + r - 1 products, nested over rows and columns.
//
// The input is cut into overlapping tiles of n x n pixels. Each tile goes through B^T d B, each of the n x n
// positions is then a matrix product of its own, tiles x channels by channels x outputs, and A^T m A gives
// m x m outputs. A. Lavin and S. Gray, "Fast algorithms for convolutional neural networks", CVPR 2016.
//
// The weights are given either transformed, G g G^T, or as they are: where there are few tiles and many
// weights, which then come from memory each time, transforming what is smaller takes less time than fetching
// what is larger.
//
// A block of tiles at a time passes all three stages, so that the transformed tiles and the products stay in
// the second-level cache; the weights stream through once per block. Everything but the epilogue depends on
// the sizes of tile and kernel alone: many layers share the code.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <utility>

#include "simd.hxx"
#include "winograd_transforms.hxx"

namespace sofie {
inline namespace SOFIE_ISA {

/// Output channels per block of weights. Transformed weights U[n0 * n1][C][O] are stored as
/// [ceil(O / 32)][n0 * n1][C][32], zero padded, the last block 16 wide where that is enough; others,
/// W[C][k0 * k1][O], as [ceil(O / 32)][C][k0 * k1][32].
constexpr std::size_t kWinogradBlock = 32;

namespace detail {

// Tiles and products are stored by channels of 16: one row of 16 floats per tile, [position][C /
// 16][tile][16].
constexpr std::size_t kWinogradRow = 16;
// Tiles whose columns are transformed in one go: they fit into the first-level cache.
constexpr std::size_t kWinogradRun = 8;
// Floats that the weights are fetched ahead of their use.
constexpr std::size_t kWinogradAhead = 2048;

// Rows x vectors of a register tile: as in gemm.hxx.
#if defined(SOFIE_ISA_AVX512)
constexpr std::size_t kWinogradRows = 14;
#elif defined(SOFIE_ISA_AVX2)
constexpr std::size_t kWinogradRows = 6;
#else
constexpr std::size_t kWinogradRows = 4;
#endif

// ---------------------------------------------------------------------------------------------------------
// The three stages
// ---------------------------------------------------------------------------------------------------------

// M outputs and N inputs of a tile along rows (0) and columns (1).
template <std::size_t M0, std::size_t N0, std::size_t M1, std::size_t N1>
struct WinogradTile {
  static constexpr std::size_t m0 = M0, n0 = N0, m1 = M1, n1 = N1, positions = N0 * N1;
};

// Floats from one position to the next: an odd number of cache lines, so that the positions of a tile do not
// compete for the same places in the caches.
constexpr std::size_t winograd_plane(std::size_t rows) {
  return (rows % 2 == 0 ? rows + 1 : rows) * kWinogradRow;
}

constexpr std::size_t winograd_rows(std::size_t channels) {
  return (channels + kWinogradRow - 1) / kWinogradRow;
}

// The members of P in two dimensions: a leading one of size 1 is added to a single one.
template <class P>
struct WinogradLayer {
  static constexpr std::size_t d1 = P::rank - 1;
  static constexpr bool flat = P::rank == 1;
  static constexpr std::size_t k0 = flat ? 1 : P::kernel[0], k1 = P::kernel[d1];
  static constexpr std::size_t m0 = flat ? 1 : P::tile[0], m1 = P::tile[d1];
  static constexpr std::size_t pad0 = flat ? 0 : P::pad_begin[0], pad1 = P::pad_begin[d1];
  static constexpr std::size_t more0 = flat ? 0 : P::pad_begin[0] + P::pad_end[0];
  static constexpr std::size_t more1 = P::pad_begin[d1] + P::pad_end[d1];
  using Tile = WinogradTile<m0, m0 + k0 - 1, m1, m1 + k1 - 1>;
  static_assert(P::rank == 1 || P::rank == 2, "");
};

// Channels whose weights are transformed at a time: they stay in the second-level cache.
template <class P>
constexpr std::size_t winograd_channels() {
  constexpr std::size_t fit = 65536 / (WinogradLayer<P>::Tile::positions * kWinogradBlock) / kWinogradRow;
  return (fit == 0 ? 1 : fit) * kWinogradRow;
}

// Neighbouring tiles in one row: the pixel at their upper left corner, which may lie in the padding.
struct WinogradRun {
  const float* image;
  std::size_t rows, columns, channels;
  std::ptrdiff_t top, left;
  std::size_t tiles;
};

// Part of [begin, begin + length) that lies in [0, size), relative to begin.
struct WinogradInside {
  std::size_t first, last;
  WinogradInside(std::ptrdiff_t begin, std::size_t length, std::size_t size) {
    const std::ptrdiff_t n = static_cast<std::ptrdiff_t>(length);
    const std::ptrdiff_t low = begin < 0 ? -begin : 0, high = static_cast<std::ptrdiff_t>(size) - begin;
    first = static_cast<std::size_t>(low < n ? low : n);
    last = high < low ? first : static_cast<std::size_t>(high < n ? high : n);
  }
};

// One vector of channels of up to kWinogradRun tiles. All rows of pixels lie inside the image if Inside, else
// those given.
template <class S, bool Inside, class J>
SOFIE_INLINE inline void winograd_input_channels(const WinogradRun& run, WinogradInside rows, J channels,
                                                 float* v, std::size_t plane) {
  alignas(64) f32v transformed[(kWinogradRun * S::m1 + S::n1 - S::m1) * S::n0];
  const std::size_t width = run.tiles * S::m1 + S::n1 - S::m1;
  const WinogradInside columns(run.left, width, run.columns);
  const std::size_t row = run.columns * run.channels;
  // Wraps around for a corner in the padding; what is read does not.
  const std::size_t corner =
      static_cast<std::size_t>(run.top) * row + static_cast<std::size_t>(run.left) * run.channels;
  f32v* to = transformed;
  for (std::size_t j = 0; j < width; ++j, to += S::n0) {
    if (j < columns.first || j >= columns.last) {
      SOFIE_UNROLL
      for (std::size_t i = 0; i < S::n0; ++i) to[i] = f32v{};
      continue;
    }
    f32v d[S::n0];
    SOFIE_UNROLL
    for (std::size_t i = 0; i < S::n0; ++i) {
      if (Inside || (i >= rows.first && i < rows.last)) {
        const float* pixel = run.image + (corner + i * row + j * run.channels);
        d[i] = load(pixel, channels);
        // The next channels of the pixel: they lie too far from those of its neighbours to be foreseen.
        __builtin_prefetch(pixel + channels.i + kLanes);
      } else {
        d[i] = f32v{};
      }
    }
    winograd_forward<S::n0>(d, to, 1);
  }
  for (std::size_t t = 0; t < run.tiles; ++t, v += kWinogradRow) {
    const f32v* from = transformed + t * S::m1 * S::n0;
    SOFIE_UNROLL
    for (std::size_t i = 0; i < S::n0; ++i) {
      f32v d[S::n1], out[S::n1];
      SOFIE_UNROLL
      for (std::size_t j = 0; j < S::n1; ++j) d[j] = from[j * S::n0 + i];
      winograd_forward<S::n1>(d, out, 1);
      SOFIE_UNROLL
      for (std::size_t j = 0; j < S::n1; ++j) store(v + (i * S::n1 + j) * plane, Full{0}, out[j]);
    }
  }
}

// v[position][channel / 16][tile][channel % 16] = B^T d B of up to kWinogradRun tiles; positions are `plane`
// floats apart, blocks of channels `step`.
template <class S>
SOFIE_NOINLINE void winograd_input(const WinogradRun& run, float* v, std::size_t step, std::size_t plane) {
  const WinogradInside rows(run.top, S::n0, run.rows);
  const bool inside = rows.first == 0 && rows.last == S::n0;
  for (std::size_t c = 0; c < run.channels; c += kLanes) {
    float* to = v + c / kWinogradRow * step + c % kWinogradRow;
    if (c + kLanes > run.channels) {
      winograd_input_channels<S, false>(run, rows, Partial{c, run.channels - c}, to, plane);
    } else if (inside) {
      winograd_input_channels<S, true>(run, rows, Full{c}, to, plane);
    } else {
      winograd_input_channels<S, false>(run, rows, Full{c}, to, plane);
    }
  }
}

// u[position][channel][width] = G g G^T of g[channel][k0 * k1][width]; positions are `plane` floats apart.
template <class S>
SOFIE_NOINLINE void winograd_weights(std::size_t channels, const float* g, std::size_t width, float* u,
                                     std::size_t plane) {
  constexpr std::size_t k0 = S::n0 - S::m0 + 1, k1 = S::n1 - S::m1 + 1;
  for (std::size_t c = 0; c < channels; ++c, g += k0 * k1 * width, u += width) {
    for (std::size_t l = 0; l < width; l += kLanes) {
      f32v half[S::n0 * k1];
      SOFIE_UNROLL
      for (std::size_t j = 0; j < k1; ++j) {
        f32v d[k0];
        SOFIE_UNROLL
        for (std::size_t i = 0; i < k0; ++i) d[i] = load(g + (i * k1 + j) * width, Full{l});
        winograd_weight<S::n0, k0>(d, half + j, k1);
      }
      SOFIE_UNROLL
      for (std::size_t i = 0; i < S::n0; ++i) {
        f32v d[S::n1];
        winograd_weight<S::n1, k1>(half + i * k1, d, 1);
        SOFIE_UNROLL
        for (std::size_t j = 0; j < S::n1; ++j) store(u + (i * S::n1 + j) * plane, Full{l}, d[j]);
      }
    }
  }
}

// Weights of some channels for a block of `width` outputs, and where the memory that will be wanted next is.
struct WinogradPanel {
  const float* u;
  std::size_t channels, width;
  const float* next;
};

// m[r][0 .. V vectors) (+)= sum over channels of v[r][c] * u[c]: R tiles. The rows of v and m lie 16 floats
// apart, so that a tile needs no more than one pointer to each.
template <std::size_t R, std::size_t V>
SOFIE_NOINLINE void winograd_product(const WinogradPanel& panel, const float* v, std::size_t v_step, float* m,
                                     std::size_t m_step, bool resume) {
  const auto at = [&](std::size_t r, std::size_t l) SOFIE_INLINE {
    return m + l * kLanes / kWinogradRow * m_step + l * kLanes % kWinogradRow + r * kWinogradRow;
  };
  f32v acc[R][V];
  SOFIE_UNROLL
  for (std::size_t r = 0; r < R; ++r) {
    SOFIE_UNROLL
    for (std::size_t l = 0; l < V; ++l) acc[r][l] = f32v{};
  }
  if (resume) {
    SOFIE_UNROLL
    for (std::size_t r = 0; r < R; ++r) {
      SOFIE_UNROLL
      for (std::size_t l = 0; l < V; ++l) acc[r][l] = load(at(r, l), Full{0});
    }
  }
  const float *u = panel.u, *next = panel.next;
  const std::size_t width = panel.width;
  for (std::size_t left = panel.channels; left > 0; v += v_step) {
    const std::size_t steps = left < kWinogradRow ? left : kWinogradRow;
    left -= steps;
    for (std::size_t c = 0; c < steps; ++c, u += width, next += width) {
      f32v x[V];
      SOFIE_UNROLL
      for (std::size_t l = 0; l < V; ++l) {
        x[l] = load(u, Full{l * kLanes});
        __builtin_prefetch(next + l * kLanes);
      }
      SOFIE_UNROLL
      for (std::size_t r = 0; r < R; ++r) {
        const f32v s = broadcast(v[r * kWinogradRow + c]);
        SOFIE_UNROLL
        for (std::size_t l = 0; l < V; ++l) acc[r][l] = fma(s, x[l], acc[r][l]);
      }
    }
  }
  SOFIE_UNROLL
  for (std::size_t l = 0; l < V; ++l) {
    SOFIE_UNROLL
    for (std::size_t r = 0; r < R; ++r) store(at(r, l), Full{0}, acc[r][l]);
  }
}

using WinogradProduct = void (*)(const WinogradPanel&, const float*, std::size_t, float*, std::size_t, bool);
template <std::size_t V, std::size_t... R>
inline WinogradProduct winograd_product_for(std::size_t rows, std::index_sequence<R...>) {
  static constexpr WinogradProduct kProducts[] = {&winograd_product<R + 1, V>...};
  return kProducts[rows - 1];
}

// One position: m (+)= v * u for all tiles, in parts as equal as possible.
SOFIE_NOINLINE inline void winograd_position(std::size_t tiles, const float* v, const WinogradPanel& whole,
                                             float* m, bool resume) {
  constexpr auto kRows = std::make_index_sequence<kWinogradRows>{};
  const std::size_t step = tiles * kWinogradRow;
  const bool two = whole.width > kLanes;
  const std::size_t parts = (tiles + kWinogradRows - 1) / kWinogradRows;
  for (std::size_t column = 0; column < whole.width; column += two ? 2 * kLanes : kLanes) {
    const WinogradPanel panel{whole.u + column, whole.channels, whole.width, whole.next + column};
    float* to = m + column / kWinogradRow * step + column % kWinogradRow;
    for (std::size_t part = 0, t = 0, last; part < parts; ++part, t = last) {
      last = tiles * (part + 1) / parts;
      const auto product =
          two ? winograd_product_for<2>(last - t, kRows) : winograd_product_for<1>(last - t, kRows);
      product(panel, v + t * kWinogradRow, step, to + t * kWinogradRow, step, resume);
    }
  }
}

// The products of all positions for one block of outputs.
template <class P, class S>
inline void winograd_products(std::size_t tiles, const float* v, std::size_t v_plane, const float* weights,
                              std::size_t width, float* m, std::size_t m_plane, float* work) {
  if constexpr (P::transformed) {
    for (std::size_t p = 0; p < S::positions; ++p) {
      const float* u = weights + p * P::C * width;
      winograd_position(tiles, v + p * v_plane, {u, P::C, width, u + kWinogradAhead}, m + p * m_plane, false);
    }
  } else {
    constexpr std::size_t kTaps = (S::n0 - S::m0 + 1) * (S::n1 - S::m1 + 1);
    constexpr std::size_t kChannels = winograd_channels<P>();
    for (std::size_t c = 0; c < P::C; c += kChannels) {
      const std::size_t channels = P::C - c < kChannels ? P::C - c : kChannels;
      const std::size_t plane = winograd_plane(channels * width / kWinogradRow);
      winograd_weights<S>(channels, weights + c * kTaps * width, width, work, plane);
      const float* const next = weights + (c + channels) * kTaps * width;
      for (std::size_t p = 0; p < S::positions; ++p) {
        winograd_position(tiles, v + p * v_plane + c * tiles,
                          {work + p * plane, channels, width, next + p % kTaps * channels * width},
                          m + p * m_plane, c > 0);
      }
    }
  }
}

// out[m0 * m1][16] = A^T m A of one tile, `vectors` of its channels.
template <class S>
SOFIE_NOINLINE void winograd_output(const float* m, std::size_t plane, std::size_t vectors, float* out) {
  for (std::size_t c = 0; c < vectors * kLanes; c += kLanes) {
    f32v half[S::m0 * S::n1];
    SOFIE_UNROLL
    for (std::size_t j = 0; j < S::n1; ++j) {
      f32v d[S::n0];
      SOFIE_UNROLL
      for (std::size_t i = 0; i < S::n0; ++i) d[i] = load(m + (i * S::n1 + j) * plane, Full{c});
      winograd_backward<S::n0, S::m0>(d, half + j, S::n1);
    }
    SOFIE_UNROLL
    for (std::size_t i = 0; i < S::m0; ++i) {
      f32v d[S::m1];
      winograd_backward<S::n1, S::m1>(half + i * S::n1, d, 1);
      SOFIE_UNROLL
      for (std::size_t j = 0; j < S::m1; ++j) store(out + (i * S::m1 + j) * kWinogradRow, Full{c}, d[j]);
    }
  }
}

}  // namespace detail

/// Elements of workspace that winograd<P> needs for this many tiles in all images together.
template <class P>
constexpr std::size_t winograd_workspace(std::size_t tiles) {
  const std::size_t block = tiles < P::block ? tiles : P::block;
  const std::size_t weights =
      P::transformed ? 0 : detail::winograd_plane(detail::winograd_channels<P>() * kWinogradBlock / 16);
  return detail::WinogradLayer<P>::Tile::positions *
         (detail::winograd_plane(block * detail::winograd_rows(P::C)) + detail::winograd_plane(block * 2) +
          weights);
}

/// y[n][i][j][o] = epilogue(sum of w * x, (n * out_rows + i) * out_columns + j, o), x and y channels last,
/// with one or two spatial dimensions, stride 1, dilation 1 and one group.
///
/// P holds the attributes as static constexpr members: rank, C and O, the arrays kernel, tile (outputs of a
/// tile: tile + kernel - 1 is 1, 4, 6 or 8), pad_begin and pad_end, block, the tiles that are computed
/// together, and transformed: whether the weights are. The epilogue gets a vector and a Full or Partial o. A
/// tile's values depend on its pixels alone, whatever the batch.
/// @param packed_w see kWinogradBlock.
/// @param workspace winograd_workspace<P>(tiles) elements, overwritten.
template <class P, class E>
void winograd(std::size_t batch, const std::size_t (&in)[P::rank], const float* x, const float* packed_w,
              float* y, float* workspace, E epilogue) {
  using Layer = detail::WinogradLayer<P>;
  using S = typename Layer::Tile;
  constexpr std::size_t kRow = detail::kWinogradRow;
  constexpr std::size_t kValues = P::transformed ? S::positions : Layer::k0 * Layer::k1;
  const std::size_t in0 = Layer::flat ? 1 : in[0], in1 = in[Layer::d1];
  const std::size_t out0 = in0 + Layer::more0 - Layer::k0 + 1, out1 = in1 + Layer::more1 - Layer::k1 + 1;
  const std::size_t tiles0 = (out0 + S::m0 - 1) / S::m0, tiles1 = (out1 + S::m1 - 1) / S::m1;
  const std::size_t total = batch * tiles0 * tiles1, blocks = (total + P::block - 1) / P::block;
  // Calls body(image, row and column of its first tile, its number in the block, tiles) for the runs of a
  // block.
  const auto runs = [&](std::size_t first, std::size_t count, auto body) SOFIE_INLINE {
    for (std::size_t t = 0, length; t < count; t += length) {
      const std::size_t row = (first + t) / tiles1, column = (first + t) % tiles1;
      length = tiles1 - column;
      if (length > count - t) length = count - t;
      if (length > detail::kWinogradRun) length = detail::kWinogradRun;
      body(row / tiles0, row % tiles0, column, t, length);
    }
  };
  for (std::size_t block = 0, first = 0, next; block < blocks; ++block, first = next) {
    next = total * (block + 1) / blocks;
    const std::size_t tiles = next - first, step = tiles * kRow;
    const std::size_t v_plane = detail::winograd_plane(tiles * detail::winograd_rows(P::C)),
                      m_plane = detail::winograd_plane(tiles * 2);
    float* const v = workspace;
    float* const m = v + S::positions * v_plane;
    runs(first, tiles,
         [&](std::size_t image, std::size_t row, std::size_t column, std::size_t t, std::size_t length) {
           const detail::WinogradRun run{
               x + image * in0 * in1 * P::C,
               in0,
               in1,
               P::C,
               static_cast<std::ptrdiff_t>(row * S::m0) - static_cast<std::ptrdiff_t>(Layer::pad0),
               static_cast<std::ptrdiff_t>(column * S::m1) - static_cast<std::ptrdiff_t>(Layer::pad1),
               length};
           detail::winograd_input<S>(run, v + t * kRow, step, v_plane);
         });
    for (std::size_t o = 0; o < P::O; o += kWinogradBlock) {
      const std::size_t outputs = P::O - o < kWinogradBlock ? P::O - o : kWinogradBlock;
      const std::size_t width = outputs > kRow ? kWinogradBlock : kRow;
      detail::winograd_products<P, S>(tiles, v, v_plane, packed_w + o * kValues * P::C, width, m, m_plane,
                                      m + S::positions * m_plane);
      runs(first, tiles,
           [&](std::size_t image, std::size_t row, std::size_t column, std::size_t t, std::size_t length) {
             const std::size_t i0 = row * S::m0;
             const std::size_t height = out0 - i0 < S::m0 ? out0 - i0 : S::m0;
             alignas(64) float tile[S::m0 * S::m1 * kRow];
             for (std::size_t r = 0; r < length; ++r) {
               const std::size_t j0 = (column + r) * S::m1;
               const std::size_t breadth = out1 - j0 < S::m1 ? out1 - j0 : S::m1;
               const std::size_t pixel = (image * out0 + i0) * out1 + j0;
               // Where the next tile goes: fetched while this one is transformed.
               for (std::size_t i = 0; i < height; ++i) {
                 for (std::size_t j = S::m1; j < 2 * S::m1; ++j) {
                   const float* const to = y + (pixel + i * out1 + j) * P::O + o;
                   for (std::size_t c = 0; c < outputs; c += kRow) __builtin_prefetch(to + c, 1);
                 }
               }
               for (std::size_t c = 0; c < outputs; c += kRow) {
                 const std::size_t left = outputs - c < kRow ? outputs - c : kRow;
                 detail::winograd_output<S>(m + c / kRow * step + (t + r) * kRow, m_plane,
                                            (left + kLanes - 1) / kLanes, tile);
                 const auto finish = [&](std::size_t l, auto channels) SOFIE_INLINE {
                   for (std::size_t i = 0; i < height; ++i) {
                     for (std::size_t j = 0; j < breadth; ++j) {
                       const std::size_t at = pixel + i * out1 + j;
                       const f32v sum = load(tile + (i * S::m1 + j) * kRow, Full{l});
                       store(y + at * P::O, channels, epilogue(sum, at, channels));
                     }
                   }
                 };
                 map(left, [&](auto channels) SOFIE_INLINE {
                   const std::size_t l = channels.i;
                   channels.i += o + c;
                   finish(l, channels);
                 });
               }
             }
           });
    }
  }
}

}  // namespace SOFIE_ISA
}  // namespace sofie
