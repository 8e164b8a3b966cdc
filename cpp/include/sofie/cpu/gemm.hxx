// Matrix product with an epilogue, for a constant right-hand side packed in advance.
//
// Every element of a result is sum_k a[i][k] * b[k][j], accumulated from 0 strictly in the order of k with
// fused multiply-adds, whatever the shapes and the path taken: a row's value does not depend on how many
// other rows there are. The scheme of register tiles and packed panels is that of K. Goto and R. van de
// Geijn, "Anatomy of high-performance matrix multiplication", ACM TOMS 34 (2008).
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "epilogue.hxx"
#include "simd.hxx"

namespace sofie {
inline namespace SOFIE_ISA {

/// Width of the panels of a packed right-hand side: B[K][N] is stored as [ceil(N / 16)][K][16], zero padded,
/// on every instruction set. Packed constants are 64-byte aligned.
constexpr std::size_t kPanel = 16;

/// Elements of a packed B[K][N].
constexpr std::size_t packed_size(std::size_t n, std::size_t k) {
  return (n + kPanel - 1) / kPanel * kPanel * k;
}

namespace detail {

// A strip is the columns that are computed in one go: V vectors, and Q groups of four columns.
//
// Groups of four make up the last columns where these would fill at most half a vector: a vector then holds
// four columns of kQuadRows rows, so that no lane is wasted.
constexpr std::size_t kQuadRows = kLanes / 4;
constexpr std::size_t kTileCols = 2 * kLanes;  // of all strips but the last
constexpr std::size_t kPanelVectors = kPanel / kLanes;

// How many groups of four make up the columns behind the last whole vector. They are for narrow matrices: 0,
// a padded vector, where they would save less than one in kQuadGain vectors.
constexpr std::size_t kQuadGain = 12;
constexpr std::size_t quads(std::size_t columns) {
  const std::size_t rest = columns % kLanes, groups = (rest + 3) / 4;
  const bool pays = (kQuadRows - groups) * kQuadGain >= (columns / kLanes + 1) * kQuadRows;
  return kQuadRows > 1 && rest > 0 && rest <= kLanes / 2 && pays ? groups : 0;
}

// The rows of a register tile: enough independent sums to hide the latency of fma (4 cycles, 2 per cycle: 8),
// few enough for the registers (32 of AVX-512, 16 otherwise) with the operands beside them.
template <std::size_t V, std::size_t Q>
constexpr std::size_t tile_rows() {
#if defined(SOFIE_ISA_AVX512)
  return V == 0 ? 16 : V == 1 ? 12 : V == 2 && Q == 0 ? 14 : 8;
#elif defined(SOFIE_ISA_AVX2)
  return V == 0 ? 8 : V == 1 || (V == 2 && Q == 0) ? 6 : 4;
#else
  return V == 3 ? 3 : 4;
#endif
}
constexpr std::size_t kTileRows = tile_rows<2, 0>();
// What is left of the rows is split into tiles of at most kShortTile rows: these exist in every size.
constexpr std::size_t kShortTile = 7;

// A product with one row is bound by streaming B; a few panels at a time keep the memory busy, and the next
// group overlaps with the latency of the last (measured 2 to 8: within 10 % of each other).
constexpr std::size_t kRowPanels = kLanes == 4 ? 2 : 3;
// Rows that use a strip of B while it stays in the caches; the last block takes up to kSpareRows more.
constexpr std::size_t kBlockRows = 56, kSpareRows = 3;
// Steps of k in one go: a strip of B is then at most kBlockK * kTileCols floats (AVX-512: 128 kB).
constexpr std::size_t kBlockK = 1024;
// Distance of the rows of a buffer of sums: the most vectors of a strip, and one for its groups of four.
constexpr std::size_t kSums = 4 * kLanes;

// Element S of every group of four lanes, in all four.
template <std::size_t S, std::size_t... L>
SOFIE_INLINE inline f32v spread(f32v v, std::index_sequence<L...>) {
  return shuffle(v, v, std::index_sequence<L / 4 * 4 + S...>{});
}
// Lanes 4 * G to 4 * G + 3 of a, then those of b.
template <std::size_t G, std::size_t... L>
SOFIE_INLINE inline f32v join(f32v a, f32v b, std::index_sequence<L...>) {
  return shuffle(a, b, std::index_sequence<4 * G + L % 4 + (L / 4 % 2 == 0 ? 0 : kLanes)...>{});
}

// n <= 4 floats from each of kQuadRows addresses, in groups of four lanes.
template <class Address, class Count>
SOFIE_INLINE inline f32v load_quads(Address address, Count n) {
#if defined(SOFIE_ISA_AVX512)  // masks: g++ 12 warns about an undefined operand inside the plain intrinsics
  if constexpr (is_fixed<Count>::value) {
    const auto four = [&](std::size_t r) SOFIE_INLINE { return _mm_loadu_ps(address(r)); };
    __m512 v = _mm512_maskz_broadcast_f32x4(0xffff, four(0));
    v = _mm512_mask_broadcast_f32x4(v, 0x00f0, four(1));
    v = _mm512_mask_broadcast_f32x4(v, 0x0f00, four(2));
    return (f32v)_mm512_mask_broadcast_f32x4(v, 0xf000, four(3));
  } else {
    const auto some = [&](std::size_t r) SOFIE_INLINE { return (__m512)load(address(r), Partial{0, n}); };
    __m512 v = some(0);
    v = _mm512_mask_shuffle_f32x4(v, 0x00f0, some(1), some(1), 0);
    v = _mm512_mask_shuffle_f32x4(v, 0x0f00, some(2), some(2), 0);
    return (f32v)_mm512_mask_shuffle_f32x4(v, 0xf000, some(3), some(3), 0);
  }
#elif defined(SOFIE_ISA_AVX2)
  const __m128i mask = _mm_cmpgt_epi32(_mm_set1_epi32(static_cast<int>(n)), _mm_setr_epi32(0, 1, 2, 3));
  const auto four = [&](std::size_t r) SOFIE_INLINE {
    return is_fixed<Count>::value ? _mm_loadu_ps(address(r)) : _mm_maskload_ps(address(r), mask);
  };
  return (f32v)_mm256_insertf128_ps(_mm256_castps128_ps256(four(0)), four(1), 1);
#else
  return load(address(0), Partial{0, n});  // not used: kQuadRows is 1
#endif
}
// Four floats in every group of four lanes.
SOFIE_INLINE inline f32v repeat_quad(const float* p) {
#if defined(SOFIE_ISA_AVX512)
  return (f32v)_mm512_maskz_broadcast_f32x4(0xffff, _mm_loadu_ps(p));
#elif defined(SOFIE_ISA_AVX2)
  return (f32v)_mm256_broadcast_ps(reinterpret_cast<const __m128*>(p));
#else
  return load(p, Full{0});
#endif
}

// A strip of a right-hand side: the panels that its vectors are in begin `panel` floats apart, its rows
// `step`.
struct Strip {
  const float* first;
  std::size_t panel;
  const float* last;  // its groups of four columns
  std::size_t step;
};

// A left-hand side: a[i][k] is a[i * row + k * step]. Groups of four columns need a step of 1.
struct LeftSide {
  const float* a;
  std::size_t row, step;
};

// Where the sums of a strip go, and what becomes of them on the way: max(sum + bias, least).
struct Target {
  float* c;
  std::size_t ldc, columns;
  const float* bias = nullptr;  // none
  float least = -infinity<float>();
};

// The sums of R rows and a strip in registers.
template <std::size_t R, std::size_t V, std::size_t Q>
struct Tile {
  static constexpr std::size_t G =
      Q == 0 ? 0 : (R + kQuadRows - 1) / kQuadRows;  // vectors of a group of four
  f32v whole[R][V + 1], four[G + 1][Q + 1];

  // The addresses of the rows that vector g of a group of four holds; the last row is repeated.
  SOFIE_INLINE static auto rows(const float* p, std::size_t ld, std::size_t g) {
    return [=](std::size_t r)
               SOFIE_INLINE { return p + (g * kQuadRows + r < R ? g * kQuadRows + r : R - 1) * ld; };
  }

  SOFIE_INLINE explicit Tile(const float* sums) {
    SOFIE_UNROLL
    for (std::size_t r = 0; r < R; ++r) {
      SOFIE_UNROLL
      for (std::size_t v = 0; v < V; ++v) whole[r][v] = f32v{};
    }
    SOFIE_UNROLL
    for (std::size_t g = 0; g < G; ++g) {
      SOFIE_UNROLL
      for (std::size_t q = 0; q < Q; ++q) four[g][q] = f32v{};
    }
    if (sums == nullptr) return;
    SOFIE_UNROLL
    for (std::size_t r = 0; r < R; ++r) {
      SOFIE_UNROLL
      for (std::size_t v = 0; v < V; ++v) whole[r][v] = load(sums + r * kSums, Full{v * kLanes});
    }
    SOFIE_UNROLL
    for (std::size_t g = 0; g < G; ++g) {
      SOFIE_UNROLL
      for (std::size_t q = 0; q < Q; ++q) {
        four[g][q] = load_quads(rows(sums + V * kLanes + 4 * q, kSums, g), fixed<4>{});
      }
    }
  }

  // Adds the products of the next element of the rows of a, which is element S of the groups of four in x,
  // and of the next row of B.
  template <std::size_t S>
  SOFIE_INLINE void add(LeftSide& left, const f32v* x, Strip& b) {
    if constexpr (V > 0) {
      f32v y[V];
      SOFIE_UNROLL
      for (std::size_t v = 0; v < V; ++v) {
        y[v] = load(b.first + v / kPanelVectors * b.panel, Full{v % kPanelVectors * kLanes});
      }
      b.first += b.step;
      SOFIE_UNROLL
      for (std::size_t r = 0; r < R; ++r) {
        const f32v s = broadcast(left.a[r * left.row]);
        SOFIE_UNROLL
        for (std::size_t v = 0; v < V; ++v) whole[r][v] = fma(s, y[v], whole[r][v]);
      }
    }
    left.a += left.step;
    if constexpr (Q > 0) {
      f32v y[Q];
      SOFIE_UNROLL
      for (std::size_t q = 0; q < Q; ++q) y[q] = repeat_quad(b.last + 4 * q);
      b.last += b.step;
      SOFIE_UNROLL
      for (std::size_t g = 0; g < G; ++g) {
        const f32v s = spread<S>(x[g], AllLanes{});
        SOFIE_UNROLL
        for (std::size_t q = 0; q < Q; ++q) four[g][q] = fma(s, y[q], four[g][q]);
      }
      // Hidden from the compiler: it would give each element of four steps an address of its own, and run out
      // of registers for them.
      asm("" : "+r"(left.a), "+r"(b.first), "+r"(b.last));
    }
  }

  template <class J>
  SOFIE_INLINE static void finish_column(const f32v (&sums)[R], J j, const Target& to) {
    const f32v bias = to.bias == nullptr ? broadcast(-0.f) : load(to.bias, j), least = broadcast(to.least);
    SOFIE_UNROLL
    for (std::size_t r = 0; r < R; ++r) store(to.c + r * to.ldc, j, raw_max(least, sums[r] + bias));
  }
  SOFIE_INLINE static void finish_last(const f32v (&sums)[R], std::size_t j, const Target& to) {
    if (j + kLanes <= to.columns) {
      finish_column(sums, Full{j}, to);
    } else {
      finish_column(sums, Partial{j, to.columns - j}, to);
    }
  }
  template <std::size_t... I>
  SOFIE_INLINE void finish(const Target& to, std::index_sequence<I...>) const {
    SOFIE_UNROLL
    for (std::size_t v = 0; v < V; ++v) {
      const f32v column[R] = {whole[I][v]...};
      if (v + 1 < V || Q > 0) {
        finish_column(column, Full{v * kLanes}, to);
      } else {
        finish_last(column, v * kLanes, to);
      }
    }
    if constexpr (Q > 0) {
      const f32v column[R] = {
          join<I % kQuadRows>(four[I / kQuadRows][0], four[I / kQuadRows][Q - 1], AllLanes{})...};
      finish_last(column, V * kLanes, to);
    }
  }
};

// The next k steps of the sums of R rows and a strip, from 0 or from where the sums before stopped.
// Not a template over the epilogue: there are only a handful of these in a program.
template <std::size_t R, std::size_t V, std::size_t Q>
SOFIE_NOINLINE void gemm_tile(std::size_t k, const float* a, const LeftSide& side, const Strip& strip,
                              const float* sums, float* c, const Target& to) {
  // Copied one by one: what was written in parts should not be read as a vector at once.
  LeftSide left{a, side.row, Q > 0 ? 1 : side.step};
  Strip b{strip.first, strip.panel, strip.last, strip.step};
  using T = Tile<R, V, Q>;
  T tile(sums);
  f32v x[T::G + 1];
  if constexpr (Q == 0) {
    for (std::size_t i = 0; i < k; ++i) tile.template add<0>(left, x, b);
  } else {
    std::size_t i = 0;
    for (; i + 4 <= k; i += 4) {
      SOFIE_UNROLL
      for (std::size_t g = 0; g < T::G; ++g) x[g] = load_quads(T::rows(left.a, left.row, g), fixed<4>{});
      tile.template add<0>(left, x, b);
      tile.template add<1>(left, x, b);
      tile.template add<2>(left, x, b);
      tile.template add<3>(left, x, b);
    }
    if (i < k) {
      SOFIE_UNROLL
      for (std::size_t g = 0; g < T::G; ++g) x[g] = load_quads(T::rows(left.a, left.row, g), k - i);
      tile.template add<0>(left, x, b);
      if (i + 1 < k) tile.template add<1>(left, x, b);
      if (i + 2 < k) tile.template add<2>(left, x, b);
    }
  }
  tile.finish({c, to.ldc, to.columns, to.bias, to.least}, std::make_index_sequence<R>{});
}

// How many of the rows that are left the next tile takes: none so small that it waits for its own sums where
// that can be avoided.
template <std::size_t V, std::size_t Q>
constexpr std::size_t next_rows(std::size_t left) {
  constexpr std::size_t R = tile_rows<V, Q>(), kShort = R < kShortTile ? R : kShortTile;
  if (left == R || left > R + kSpareRows) return R;
  const std::size_t tiles = (left + kShort - 1) / kShort;
  return (left + tiles - 1) / tiles;
}

// Whether there is a tile for whatever next_rows asks for.
template <std::size_t V, std::size_t Q>
constexpr bool has_tiles() {
  constexpr std::size_t R = tile_rows<V, Q>();
  for (std::size_t left = 1; left <= 2 * R + kSpareRows; ++left) {
    const std::size_t n = next_rows<V, Q>(left);
    if (n == 0 || n > left || n > R || (n > kShortTile && n != R)) return false;
  }
  return true;
}

// A block of rows of a strip. Neither this nor what it calls depends on the epilogue, so that a program with
// many products has the heavy code once.
// @param sums room for the sums of all rows if k is more than kBlockK.
template <std::size_t V, std::size_t Q>
SOFIE_NOINLINE void gemm_strip(std::size_t rows, std::size_t k, const LeftSide& left, Strip b, float* sums,
                               const Target& target) {
  constexpr std::size_t R = tile_rows<V, Q>();
  static_assert(has_tiles<V, Q>() && kShortTile == 7, "the cases below");
  const Target partial{sums, kSums, kSums};
  std::size_t done = 0;
  do {
    const std::size_t steps = k - done < kBlockK ? k - done : kBlockK;
    const bool last = done + steps == k;
    const Target& to = last ? target : partial;
    for (std::size_t r = 0, count; r < rows; r += count) {
      count = next_rows<V, Q>(rows - r);
      const float* a = left.a + r * left.row + done * left.step;
      const float* from = done > 0 ? sums + r * kSums : nullptr;
      float* c = to.c + r * to.ldc;
      const auto run = [&](auto n) SOFIE_INLINE {
        constexpr std::size_t kRows = decltype(n)::value;
        // So few rows gain nothing from groups of four; the panels are padded.
        constexpr bool padded = Q > 0 && kRows < 4;
        if constexpr (kRows <= R) {
          gemm_tile<kRows, padded ? V + 1 : V, padded ? 0 : Q>(steps, a, left, b, from, c, to);
        }
      };
      switch (count) {
        case 1:
          run(fixed<1>{});
          break;
        case 2:
          run(fixed<2>{});
          break;
        case 3:
          run(fixed<3>{});
          break;
        case 4:
          run(fixed<4>{});
          break;
        case 5:
          run(fixed<5>{});
          break;
        case 6:
          run(fixed<6>{});
          break;
        case 7:
          run(fixed<7>{});
          break;
        default:
          run(fixed<R>{});
      }
    }
    b.first += steps * b.step;
    if (Q > 0) b.last += steps * b.step;
    done += steps;
  } while (done < k);
}

// sums[0 .. P panels) = a[0 .. k) * B: one row.
template <std::size_t P>
SOFIE_NOINLINE void gemm_row(std::size_t k, const float* a, std::size_t step, const float* b, float* sums) {
  const std::size_t panel = k * kPanel;
  f32v acc[P * kPanelVectors];
  SOFIE_UNROLL
  for (std::size_t v = 0; v < P * kPanelVectors; ++v) acc[v] = f32v{};
  for (std::size_t i = 0; i < k; ++i, a += step, b += kPanel) {
    const f32v s = broadcast(*a);
    SOFIE_UNROLL
    for (std::size_t v = 0; v < P * kPanelVectors; ++v) {
      acc[v] = fma(s, load(b + v / kPanelVectors * panel, Full{v % kPanelVectors * kLanes}), acc[v]);
    }
  }
  SOFIE_UNROLL
  for (std::size_t v = 0; v < P * kPanelVectors; ++v) store(sums, Full{v * kLanes}, acc[v]);
}

// The sums of the next panels of one row: returns how many.
SOFIE_NOINLINE inline std::size_t gemm_panels(std::size_t left, std::size_t k, const float* a,
                                              std::size_t step, const float* b, float* sums) {
  // Groups as equal as possible: one short of sums would wait for its own latency.
  const std::size_t count = left <= kRowPanels ? left : left < 2 * kRowPanels ? (left + 1) / 2 : kRowPanels;
  static_assert(kRowPanels == 2 || kRowPanels == 3, "the cases below");
  if (count == 1) gemm_row<1>(k, a, step, b, sums);
  if (count == 2) gemm_row<2>(k, a, step, b, sums);
  if constexpr (kRowPanels > 2) {
    if (count == 3) gemm_row<3>(k, a, step, b, sums);
  }
  return count;
}

// c[r][j] = epilogue(sums[r][j - column], row + r, j) for r < rows and j from `column` to `end`.
template <class N, class E>
SOFIE_NOINLINE void gemm_finish(std::size_t rows, std::size_t row, std::size_t column, std::size_t end, N n,
                                const float* sums, float* c, std::size_t ldc, E& epilogue) {
  c += row * ldc;
  // Columns outside, rows inside: what the epilogue reads per column is then loaded once.
  for (std::size_t j = column; j < end && j < n; j += kLanes) {
    const auto all_rows = [&](auto columns) SOFIE_INLINE {
      for (std::size_t r = 0; r < rows; ++r) {
        store(c + r * ldc, columns, epilogue(load(sums + r * kSums, Full{j - column}), row + r, columns));
      }
    };
    if ((is_fixed<N>::value && std::size_t(n) % kLanes == 0) || j + kLanes <= n) {
      all_rows(Full{j});
    } else {
      all_rows(Partial{j, is_fixed<N>::value ? std::size_t(n) % kLanes : n - j});
    }
  }
}

// A right-hand side: columns before `packed_from` lie in rows ldb apart, the others are packed.
struct RightSide {
  const float* b;
  std::size_t ldb, packed_from;
  const float* packed;

  const float* panel(std::size_t j, std::size_t k) const {
    j -= packed_from;
    return packed + j / kPanel * kPanel * k + j % kPanel;
  }
  // The strip that begins in column j.
  template <std::size_t V, std::size_t Q>
  Strip strip(std::size_t j, std::size_t k) const {
    if (j < packed_from) return {b + j, kPanel, nullptr, ldb};
    return {panel(j, k), k * kPanel, Q == 0 ? nullptr : panel(j + V * kLanes, k), kPanel};
  }
};

// The target of sums with this epilogue if tiles can apply it.
template <class E>
constexpr bool is_simple = std::is_same<E, Identity>::value || std::is_same<E, Bias<float>>::value ||
                           std::is_same<E, BiasRelu<float>>::value;
template <class E>
Target target(float* c, std::size_t ldc, std::size_t columns, std::size_t column, const E& epilogue) {
  Target to{c, ldc, columns};
  if constexpr (!std::is_same<E, Identity>::value) to.bias = epilogue.bias + column;
  if constexpr (std::is_same<E, BiasRelu<float>>::value) to.least = 0.f;
  return to;
}

template <class N, class E>
inline void gemm_float(std::size_t m, N n, std::size_t k, const LeftSide& left, const RightSide& right,
                       float* c, std::size_t ldc, E& epilogue) {
  static_assert(kRowPanels * kPanel <= kBlockRows * kSums, "room for a row");
  alignas(64) float sums[(kBlockRows + kSpareRows) * kSums];
  if (m == 1 && right.packed_from == 0) {
    for (std::size_t column = 0, next; column < n; column = next) {
      const std::size_t panels = (n - column + kPanel - 1) / kPanel;
      next = column + kPanel * gemm_panels(panels, k, left.a, left.step, right.panel(column, k), sums);
      gemm_finish(1, 0, column, next, n, sums, c, ldc, epilogue);
    }
    return;
  }
  for (std::size_t i = 0, rows; i < m; i += rows) {
    rows = m - i <= kBlockRows + kSpareRows ? m - i : kBlockRows;
    std::size_t column = 0;
    const LeftSide block{left.a + i * left.row, left.row, left.step};
    const auto strip = [&](auto vectors, auto groups) {
      constexpr std::size_t V = decltype(vectors)::value, Q = decltype(groups)::value;
      const Strip b = right.strip<V, Q>(column, k);
      const std::size_t end = column + V * kLanes + 4 * Q;
      if constexpr (is_simple<E>) {
        const std::size_t columns = (end < n ? end : n) - column;
        gemm_strip<V, Q>(rows, k, block, b, sums,
                         target(c + i * ldc + column, ldc, columns, column, epilogue));
      } else {
        gemm_strip<V, Q>(rows, k, block, b, sums, {sums, kSums, kSums});
        gemm_finish(rows, i, column, end, n, sums, c, ldc, epilogue);
      }
      column = end;
    };
    if constexpr (is_fixed<N>::value) {
      constexpr std::size_t Q = quads(N::value);
      constexpr std::size_t vectors = Q > 0 ? N::value / kLanes : (N::value + kLanes - 1) / kLanes;
      constexpr std::size_t odd = vectors == 1 || kLanes == 4 ? 1 : 3;
      constexpr std::size_t V = vectors % 2 == 1 ? odd : Q > 0 && vectors > 0 ? 2 : 0;
      while (column < (vectors - V) * kLanes) strip(fixed<2>{}, fixed<0>{});
      if constexpr (V + Q > 0) strip(fixed<V>{}, fixed<Q>{});
    } else {
      while (column + kLanes < n) strip(fixed<2>{}, fixed<0>{});
      if (column < n) strip(fixed<1>{}, fixed<0>{});
    }
  }
}

}  // namespace detail

/// c[i * ldc + j] = epilogue(sum_k a[i * lda + k] * B[k][j], i, j) for i < m, j < n.
///
/// The extents are `std::size_t` or `fixed<>`. For float the epilogue gets a vector and a Full or Partial j
/// and returns a vector or float; for other types it gets a T and a Scalar j.
/// @param packed_b B in panels of kPanel columns, see kPanel.
template <class M, class N, class K, class T, class E>
void gemm(M m, N n, K k, const T* a, std::size_t lda, const same<T>* packed_b, same<T>* c, std::size_t ldc,
          E epilogue) {
  if constexpr (std::is_same<T, float>::value) {
    detail::gemm_float(m, n, k, {a, lda, 1}, {nullptr, 0, 0, packed_b}, c, ldc, epilogue);
  } else {
    for (std::size_t i = 0; i < m; ++i) {
      for (std::size_t j = 0; j < n; ++j) {
        T sum = T(0);
        for (std::size_t l = 0; l < k; ++l) {
          sum = fma(a[i * lda + l], packed_b[(j / kPanel * k + l) * kPanel + j % kPanel], sum);
        }
        store(c + i * ldc, Scalar{j}, epilogue(sum, i, Scalar{j}));
      }
    }
  }
}

}  // namespace SOFIE_ISA
}  // namespace sofie
