// Convolution of one to three spatial dimensions with the channels last: x[N][spatial][C] to y[N][out][O].
//
// A tile of neighbouring output positions x vectors of output channels stays in registers while everything
// that these outputs read passes. What one output reads is a few contiguous runs (along the last dimension
// the taps of neighbouring positions follow each other in memory), so the inner loop is that of a matrix
// product: load the weights of one element of the run, broadcast the element of every position, multiply
// and add. The rows of the left matrix overlap in memory and nothing is copied for it (no im2col); strides
// and dilations only change distances. Padding is the one reason to copy: one image, padded, at a time.
//
// Every sum runs over taps and channels in one order, whatever the shapes and the path taken.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>

#include "conv.hxx"
#include "copy_matrix.hxx"
#include "gemm.hxx"
#include "simd.hxx"

namespace sofie {
inline namespace SOFIE_ISA {

namespace detail {

// What the sum of one output runs over: equally long runs that begin at these distances from the first.
struct ConvRuns {
  std::size_t count, length;
  const std::size_t* offset;
};

// Output positions of a tile: rows x columns neighbours along the last two dimensions.
struct ConvTile {
  std::size_t rows, columns;
};

// The tile that needs the fewest cycles for all positions. A tile takes as many steps as it has positions
// (two vectors for each, two multiplications in a cycle), but no fewer than their latency, and two more for
// loading the weights. A tile never has more rows than are known to exist (an extent of 0 is not known), and
// more columns than there may be only where the run tells how many: columns are then taken to be many.
constexpr ConvTile conv_best_tile(std::size_t rows, std::size_t columns) {
  if (columns == 0) return {1, kTileRows};
  if (rows == 0) rows = 1;
  ConvTile best{1, 1};
  std::size_t least = static_cast<std::size_t>(-1);
  for (std::size_t c = 1; c <= kTileRows && c <= columns; ++c) {
    for (std::size_t r = 1; r * c <= kTileRows && r <= rows; ++r) {
      const std::size_t tiles = ((rows + r - 1) / r) * ((columns + c - 1) / c);
      const std::size_t cycles = tiles * ((r * c < 4 ? 4 : r * c) + 2);
      if (cycles < least) {
        least = cycles;
        best = {r, c};
      }
    }
  }
  return best;
}

template <class P>
constexpr ConvTile conv_tile_of() {
  return conv_best_tile(P::rank == 1 ? 1 : P::out[P::rank < 2 ? 0 : P::rank - 2], P::out[P::rank - 1]);
}

template <class P>
constexpr bool conv_pads() {
  for (std::size_t d = 0; d < P::rank; ++d) {
    if (P::pad_begin[d] != 0 || P::pad_end[d] != 0) return true;
  }
  return false;
}

// sums[position][0 .. V vectors) of a tile whose positions read at x, `row_step` apart along a column and
// Step apart along a row. Not a template over the epilogue: layers of equal shape share this code.
template <std::size_t Rows, std::size_t Columns, std::size_t V, std::size_t Step>
SOFIE_NOINLINE void conv_last_tile(const ConvRuns& runs, const float* x, std::size_t row_step,
                                   const float* w0, const float* w1, float* sums) {
  f32v acc[Rows][Columns][V];
  SOFIE_UNROLL
  for (std::size_t r = 0; r < Rows; ++r) {
    SOFIE_UNROLL
    for (std::size_t c = 0; c < Columns; ++c) {
      SOFIE_UNROLL
      for (std::size_t v = 0; v < V; ++v) acc[r][c][v] = f32v{};
    }
  }
  for (std::size_t run = 0; run < runs.count; ++run) {
    const float* from[Rows];
    SOFIE_UNROLL
    for (std::size_t r = 0; r < Rows; ++r) from[r] = x + runs.offset[run] + r * row_step;
    for (std::size_t i = 0; i < runs.length; ++i) {
      f32v w[V];
      w[0] = load(w0, Full{0});
      if constexpr (V == 2) w[1] = load(w1, Full{0});
      w0 += kPanel;
      w1 += kPanel;
      SOFIE_UNROLL
      for (std::size_t r = 0; r < Rows; ++r) {
        SOFIE_UNROLL
        for (std::size_t c = 0; c < Columns; ++c) {
          const f32v s = broadcast(from[r][c * Step]);
          SOFIE_UNROLL
          for (std::size_t v = 0; v < V; ++v) acc[r][c][v] = fma(s, w[v], acc[r][c][v]);
        }
        ++from[r];
      }
    }
  }
  SOFIE_UNROLL
  for (std::size_t r = 0; r < Rows; ++r) {
    SOFIE_UNROLL
    for (std::size_t c = 0; c < Columns; ++c) {
      SOFIE_UNROLL
      for (std::size_t v = 0; v < V; ++v) {
        store(sums + (r * Columns + c) * kTileCols, Full{v * kLanes}, acc[r][c][v]);
      }
    }
  }
}

// Copies one image, whose elements are `strides` apart (spatial dimensions, then the channel), with its
// padding around it: to[padded][channels].
SOFIE_NOINLINE inline void conv_pad(const ConvShape& s, const std::size_t (&padded)[3], std::size_t channels,
                                    const float* x, const std::size_t (&strides)[4], float* to) {
  const auto zero = [&](std::size_t n) {
    map(n, [&](auto j) SOFIE_INLINE { store(to, j, 0.f); });
    to += n;
  };
  for (std::size_t i0 = 0; i0 < padded[0]; ++i0) {
    for (std::size_t i1 = 0; i1 < padded[1]; ++i1) {
      if (i0 < s.pad[0] || i0 - s.pad[0] >= s.in[0] || i1 < s.pad[1] || i1 - s.pad[1] >= s.in[1]) {
        zero(padded[2] * channels);
        continue;
      }
      const float* row = x + (i0 - s.pad[0]) * strides[0] + (i1 - s.pad[1]) * strides[1];
      zero(s.pad[2] * channels);
      if (strides[3] == 1 && strides[2] == channels) {
        map(s.in[2] * channels, [&](auto j) SOFIE_INLINE { store(to, j, load(row, j)); });
      } else if (channels >= 4) {
        copy_matrix(s.in[2], channels, row, strides[2], strides[3], to, channels);
      } else {
        for (std::size_t i = 0; i < s.in[2]; ++i) {
          for (std::size_t c = 0; c < channels; ++c)
            to[i * channels + c] = row[i * strides[2] + c * strides[3]];
        }
      }
      to += s.in[2] * channels;
      zero((padded[2] - s.in[2] - s.pad[2]) * channels);
    }
  }
}

// Calls tile(first row, first column, rows to skip, columns to skip) for tiles that cover the whole; the last
// tiles overlap those before, whose positions are then skipped.
template <class F>
SOFIE_INLINE inline void conv_cover(std::size_t rows, std::size_t columns, const ConvTile& t, F&& tile) {
  for (std::size_t i = 0; i < rows; i += t.rows) {
    const std::size_t row = i + t.rows <= rows ? i : rows - t.rows;
    for (std::size_t j = 0; j < columns; j += t.columns) {
      const std::size_t column = j + t.columns <= columns ? j : columns - t.columns;
      tile(row, column, i - row, j - column);
    }
  }
}

}  // namespace detail

/// Elements of workspace that conv_channels_last<P> needs: one image with its padding, 0 without padding.
template <class P>
constexpr std::size_t conv_channels_last_workspace(const std::size_t (&in)[P::rank]) {
  if (!detail::conv_pads<P>()) return 0;
  std::size_t n = P::C;
  for (std::size_t d = 0; d < P::rank; ++d) n *= in[d] + P::pad_begin[d] + P::pad_end[d];
  return n;
}

/// y[n][p][o] = epilogue(sum of w * x, i, o), p running over the flattened output positions and i over those
/// of all images.
///
/// P holds the attributes as static constexpr members: rank, C and O, the arrays kernel, stride, dilation,
/// pad_begin, pad_end, and out: the output's spatial extents where they are known, else 0. The epilogue gets
/// a vector and a Full or Partial o. Each image is computed alike, whatever the batch.
/// @param strides of x: batch, spatial dimensions, channel. Without padding x must be contiguous.
/// @param packed_w W[kernel...][C][O] as a matrix of O columns, in panels: see kPanel.
/// @param workspace conv_channels_last_workspace<P>(in) elements, overwritten.
template <class P, class E>
void conv_channels_last(std::size_t batch, const std::size_t (&in)[P::rank], const float* x,
                        const std::size_t (&strides)[P::rank + 2], const float* packed_w, float* y,
                        float* workspace, E epilogue) {
  using namespace detail;
  constexpr std::size_t C = P::C, O = P::O, kLast = P::rank - 1;
  // Taps along the last dimension follow each other in memory unless they are dilated.
  constexpr bool kJoined = P::dilation[kLast] == 1 || P::kernel[kLast] == 1;
  constexpr std::size_t kLength = kJoined ? P::kernel[kLast] * C : C;
  constexpr std::size_t kRuns = conv_taps<P>() * C / kLength;
  constexpr std::size_t kStep = P::stride[kLast] * C;
  constexpr ConvTile kTile = conv_tile_of<P>();

  ConvShape s;
  std::size_t padded[3] = {1, 1, 1}, from_strides[4] = {0, 0, 0, strides[P::rank + 1]};
  for (std::size_t d = 0; d < P::rank; ++d) {
    const std::size_t e = d + 3 - P::rank;
    s.in[e] = in[d];
    s.pad[e] = P::pad_begin[d];
    s.out[e] = conv_out(in[d], P::kernel[d], P::stride[d], P::dilation[d], P::pad_begin[d], P::pad_end[d]);
    s.stride[e] = P::stride[d];
    s.kernel[e] = P::kernel[d];
    s.dilation[e] = P::dilation[d];
    padded[e] = in[d] + P::pad_begin[d] + P::pad_end[d];
    from_strides[e] = strides[d + 1];
  }
  const std::size_t row = padded[2] * C, plane = padded[1] * row;
  std::size_t offset[kRuns];
  const std::size_t joined = kJoined ? 1 : s.kernel[2];
  for (std::size_t k0 = 0, run = 0; k0 < s.kernel[0]; ++k0) {
    for (std::size_t k1 = 0; k1 < s.kernel[1]; ++k1) {
      for (std::size_t k2 = 0; k2 < joined; ++k2, ++run) {
        offset[run] = k0 * s.dilation[0] * plane + k1 * s.dilation[1] * row + k2 * s.dilation[2] * C;
      }
    }
  }
  const ConvRuns runs{kRuns, kLength, offset};

  alignas(64) float sums[kTileRows * kTileCols];
  for (std::size_t n = 0; n < batch; ++n) {
    const float* from = x + n * strides[0];
    if constexpr (conv_pads<P>()) {
      conv_pad(s, padded, C, from, from_strides, workspace);
      from = workspace;
    } else {
      static_cast<void>(workspace);
    }
    // The weights of a strip of output channels stay in the caches while all positions pass.
    for (std::size_t o = 0; o < O; o += kTileCols) {
      const std::size_t next = o + kTileCols < O ? o + kTileCols : O;
      const auto panel = [&](std::size_t j) {
        return packed_w + j / kPanel * kPanel * kRuns * kLength + j % kPanel;
      };
      const float *w0 = panel(o), *w1 = next - o > kLanes ? panel(o + kLanes) : w0;
      for (std::size_t o0 = 0; o0 < s.out[0]; ++o0) {
        const auto all_tiles = [&](auto columns) SOFIE_INLINE {
          constexpr ConvTile kShape{kTile.rows, decltype(columns)::value};
          conv_cover(
              s.out[1], s.out[2], kShape,
              [&](std::size_t o1, std::size_t o2, std::size_t skip1, std::size_t skip2) SOFIE_INLINE {
                const float* at = from + o0 * s.stride[0] * plane + o1 * s.stride[1] * row + o2 * kStep;
                const auto tile = [&](auto vectors) SOFIE_INLINE {
                  conv_last_tile<kShape.rows, kShape.columns, decltype(vectors)::value, kStep>(
                      runs, at, s.stride[1] * row, w0, w1, sums);
                };
                if constexpr (O % kTileCols == 0 || O % kTileCols > kLanes) {
                  tile(fixed<2>{});
                } else if constexpr (O < kTileCols) {
                  tile(fixed<1>{});
                } else if (next - o > kLanes) {
                  tile(fixed<2>{});
                } else {
                  tile(fixed<1>{});
                }
                // What the epilogue reads per channel is loaded once for all positions.
                for (std::size_t j = o; j < next; j += kLanes) {
                  const auto all_positions = [&](auto channels) SOFIE_INLINE {
                    for (std::size_t r = skip1; r < kShape.rows; ++r) {
                      const std::size_t i = ((n * s.out[0] + o0) * s.out[1] + o1 + r) * s.out[2] + o2;
                      for (std::size_t c = skip2; c < kShape.columns; ++c) {
                        const f32v sum = load(sums + (r * kShape.columns + c) * kTileCols, Full{j - o});
                        store(y + (i + c) * O, channels, epilogue(sum, i + c, channels));
                      }
                    }
                  };
                  if (O % kLanes == 0 || j + kLanes <= O) {
                    all_positions(Full{j});
                  } else {
                    all_positions(Partial{j, O % kLanes});
                  }
                }
              });
        };
        if constexpr (P::out[kLast] != 0) {
          static_assert(kTile.columns <= P::out[kLast], "a tile that every row has room for");
          all_tiles(fixed<kTile.columns>{});
        } else {
          constexpr std::size_t kHalf = (kTile.columns + 1) / 2;
          if (s.out[2] >= kTile.columns) {
            all_tiles(fixed<kTile.columns>{});
          } else if (s.out[2] >= kHalf) {
            all_tiles(fixed<kHalf>{});
          } else {
            all_tiles(fixed<1>{});
          }
        }
      }
    }
  }
}

}  // namespace SOFIE_ISA
}  // namespace sofie
