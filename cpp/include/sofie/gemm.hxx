// Matrix products with an epilogue: gemm for a constant right-hand side packed in advance, matmul for two
// run-time operands with any strides and batch dimensions.
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
#include <type_traits>

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

// A register tile is kTileRows x 2 vectors: enough independent sums to hide the latency of fma (4 cycles, 2
// per cycle: 8), few enough for the registers (32 of AVX-512, 16 otherwise) with the operands beside them.
#if defined(SOFIE_ISA_AVX512)
constexpr std::size_t kTileRows = 14;
#elif defined(SOFIE_ISA_AVX2)
constexpr std::size_t kTileRows = 6;
#else
constexpr std::size_t kTileRows = 4;
#endif
constexpr std::size_t kTileCols = 2 * kLanes;
constexpr std::size_t kPanelVectors = kPanel / kLanes;
// A product with one row is bound by streaming B; a few panels at a time keep the memory busy, and the next
// group overlaps with the latency of the last (measured 2 to 8: within 10 % of each other).
constexpr std::size_t kRowPanels = kLanes == 4 ? 2 : 3;
// Rows whose sums are kept in one go while a strip of B stays in the caches: a multiple of kTileRows.
constexpr std::size_t kBlockRows = 4 * kTileRows;
// Steps of k in one go: a strip of B is then at most kBlockK * kTileCols floats (AVX-512: 128 kB).
constexpr std::size_t kBlockK = 1024;

// sums[r][0 .. V vectors) (+)= a[r][0 .. k) * b, b given as two columns of vectors with a common row stride.
// Not a template over the epilogue: there are only a handful of these in a program.
template <std::size_t R, std::size_t V>
SOFIE_NOINLINE void gemm_tile(std::size_t k, const float* a, std::size_t lda, const float* b0,
                              const float* b1, std::size_t ldb, float* sums, bool resume) {
  f32v acc[R][V];
  SOFIE_UNROLL
  for (std::size_t r = 0; r < R; ++r) {
    SOFIE_UNROLL
    for (std::size_t v = 0; v < V; ++v) acc[r][v] = f32v{};
  }
  if (resume) {
    SOFIE_UNROLL
    for (std::size_t r = 0; r < R; ++r) {
      SOFIE_UNROLL
      for (std::size_t v = 0; v < V; ++v) acc[r][v] = load(sums + r * kTileCols, Full{v * kLanes});
    }
  }
  for (std::size_t i = 0; i < k; ++i) {
    f32v x[V];
    x[0] = load(b0, Full{0});
    if constexpr (V == 2) x[1] = load(b1, Full{0});
    b0 += ldb;
    b1 += ldb;
    SOFIE_UNROLL
    for (std::size_t r = 0; r < R; ++r) {
      const f32v s = broadcast(a[r * lda]);
      SOFIE_UNROLL
      for (std::size_t v = 0; v < V; ++v) acc[r][v] = fma(s, x[v], acc[r][v]);
    }
    ++a;
  }
  SOFIE_UNROLL
  for (std::size_t r = 0; r < R; ++r) {
    SOFIE_UNROLL
    for (std::size_t v = 0; v < V; ++v) store(sums + r * kTileCols, Full{v * kLanes}, acc[r][v]);
  }
}

// All rows of a strip of V vectors of columns: tiles of kTileRows, then smaller ones for the rest.
template <std::size_t V, std::size_t R = kTileRows>
inline void gemm_strip(std::size_t rows, std::size_t k, const float* a, std::size_t lda, const float* b0,
                       const float* b1, std::size_t ldb, float* sums, bool resume) {
  for (; rows >= R; rows -= R, a += R * lda, sums += R * kTileCols) {
    gemm_tile<R, V>(k, a, lda, b0, b1, ldb, sums, resume);
  }
  if constexpr (R > 1) gemm_strip<V, (R + 1) / 2>(rows, k, a, lda, b0, b1, ldb, sums, resume);
}

// sums[0 .. P panels) = a[0 .. k) * B: one row.
template <std::size_t P>
SOFIE_NOINLINE void gemm_row(std::size_t k, const float* a, const float* b, float* sums) {
  const std::size_t panel = k * kPanel;
  f32v acc[P * kPanelVectors];
  SOFIE_UNROLL
  for (std::size_t v = 0; v < P * kPanelVectors; ++v) acc[v] = f32v{};
  for (std::size_t i = 0; i < k; ++i, b += kPanel) {
    const f32v s = broadcast(a[i]);
    SOFIE_UNROLL
    for (std::size_t v = 0; v < P * kPanelVectors; ++v) {
      acc[v] = fma(s, load(b + v / kPanelVectors * panel, Full{v % kPanelVectors * kLanes}), acc[v]);
    }
  }
  SOFIE_UNROLL
  for (std::size_t v = 0; v < P * kPanelVectors; ++v) store(sums, Full{v * kLanes}, acc[v]);
}

// A right-hand side: columns before `packed_from` lie in rows ldb apart, the others are packed.
struct RightSide {
  const float* b;
  std::size_t ldb, packed_from;
  const float* packed;
};

// Sums of a block of rows and some columns from `column` on (which is a multiple of the strip's width):
// returns how many. Neither this nor what it calls depends on the epilogue, so that a program with many
// products has the heavy code once.
SOFIE_NOINLINE inline std::size_t gemm_sums(const RightSide& right, std::size_t rows, std::size_t n,
                                            std::size_t k, const float* a, std::size_t lda,
                                            std::size_t column, float* sums) {
  const auto packed = [&](std::size_t j) {
    j -= right.packed_from;
    return right.packed + j / kPanel * kPanel * k + j % kPanel;
  };
  if (rows == 1 && right.packed_from == 0) {
    const std::size_t left = (n - column + kPanel - 1) / kPanel;
    // Groups as equal as possible: one short of sums would wait for its own latency.
    const std::size_t count = left <= kRowPanels ? left : left < 2 * kRowPanels ? (left + 1) / 2 : kRowPanels;
    if (count == 1) gemm_row<1>(k, a, packed(column), sums);
    if (count == 2) gemm_row<2>(k, a, packed(column), sums);
    if constexpr (kRowPanels > 2) {
      if (count == 3) gemm_row<3>(k, a, packed(column), sums);
    }
    return count * kPanel;
  }
  const bool direct = column<right.packed_from, two = n - column> kLanes;
  const std::size_t ldb = direct ? right.ldb : kPanel;
  const float* b0 = direct ? right.b + column : packed(column);
  const float* b1 = !two ? b0 : direct ? b0 + kLanes : packed(column + kLanes);
  std::size_t done = 0;
  do {
    const std::size_t steps = k - done < kBlockK ? k - done : kBlockK;
    if (two) {
      gemm_strip<2>(rows, steps, a + done, lda, b0, b1, ldb, sums, done > 0);
    } else {
      gemm_strip<1>(rows, steps, a + done, lda, b0, b1, ldb, sums, done > 0);
    }
    b0 += steps * ldb;
    b1 += steps * ldb;
    done += steps;
  } while (done < k);
  return kTileCols;
}

template <class N, class E>
inline void gemm_float(std::size_t m, N n, std::size_t k, const float* a, std::size_t lda,
                       const RightSide& right, float* c, std::size_t ldc, E& epilogue) {
  static_assert(kRowPanels * kPanel <= kBlockRows * kTileCols, "room for a row");
  alignas(64) float sums[kBlockRows * kTileCols];
  for (std::size_t i = 0; i < m; i += kBlockRows) {
    const std::size_t rows = m - i < kBlockRows ? m - i : kBlockRows;
    for (std::size_t column = 0, next; column < n; column = next) {
      next = column + gemm_sums(right, rows, n, k, a + i * lda, lda, column, sums);
      // Columns outside, rows inside: what the epilogue reads per column is then loaded once.
      for (std::size_t j = column; j < next && j < n; j += kLanes) {
        const auto all_rows = [&](auto columns) SOFIE_INLINE {
          for (std::size_t r = 0; r < rows; ++r) {
            const f32v sum = load(sums + r * kTileCols, Full{j - column});
            store(c + (i + r) * ldc, columns, epilogue(sum, i + r, columns));
          }
        };
        if ((is_fixed<N>::value && std::size_t(n) % kLanes == 0) || j + kLanes <= n) {
          all_rows(Full{j});
        } else {
          all_rows(Partial{j, is_fixed<N>::value ? std::size_t(n) % kLanes : n - j});
        }
      }
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
    detail::gemm_float(m, n, k, a, lda, {nullptr, 0, 0, packed_b}, c, ldc, epilogue);
  } else {
    for (std::size_t i = 0; i < m; ++i) {
      for (std::size_t j = 0; j < n; ++j) {
        const T* b = packed_b + j / kPanel * kPanel * k + j % kPanel;
        T sum = T(0);
        for (std::size_t l = 0; l < k; ++l) sum = fma(a[i * lda + l], b[l * kPanel], sum);
        store(c + i * ldc, Scalar{j}, epilogue(sum, i, Scalar{j}));
      }
    }
  }
}

/// Elements of workspace that matmul needs: B packed, and A copied if its rows are not contiguous.
constexpr std::size_t matmul_workspace(std::size_t m, std::size_t n, std::size_t k, std::size_t a_sk) {
  return packed_size(n, k) + (a_sk == 1 ? 0 : m * k);
}

namespace detail {
typedef float f32x4 __attribute__((vector_size(16)));

// Interleaves the lower (or upper) halves of two vectors: a0 b0 a1 b1 (or a2 b2 a3 b3).
template <bool Upper>
SOFIE_INLINE inline f32x4 interleave(f32x4 a, f32x4 b) {
#if defined(__clang__)
  return Upper ? __builtin_shufflevector(a, b, 2, 6, 3, 7) : __builtin_shufflevector(a, b, 0, 4, 1, 5);
#else
  typedef std::int32_t i32x4 __attribute__((vector_size(16)));
  return Upper ? __builtin_shuffle(a, b, i32x4{2, 6, 3, 7}) : __builtin_shuffle(a, b, i32x4{0, 4, 1, 5});
#endif
}

// to[i * ld + j] = from[i * step_i + j * step_j] for i < m, j < n; transposes by blocks of 4 x 4.
SOFIE_NOINLINE inline void copy_matrix(std::size_t m, std::size_t n, const float* from, std::size_t step_i,
                                       std::size_t step_j, float* to, std::size_t ld) {
  std::size_t i = 0;
  if (step_j == 1) {
    for (; i < m; ++i) {
      map(n, [&](auto j) SOFIE_INLINE { store(to + i * ld, j, load(from + i * step_i, j)); });
    }
  } else if (step_i == 1) {
    const std::size_t whole = n / 4 * 4;
    for (; i + 4 <= m; i += 4) {
      for (std::size_t j = 0; j < whole; j += 4) {
        f32x4 r[4];
        SOFIE_UNROLL
        for (std::size_t l = 0; l < 4; ++l) std::memcpy(&r[l], from + i + (j + l) * step_j, sizeof r[l]);
        const f32x4 a = interleave<false>(r[0], r[2]), b = interleave<false>(r[1], r[3]);
        const f32x4 c = interleave<true>(r[0], r[2]), d = interleave<true>(r[1], r[3]);
        const f32x4 t[4] = {interleave<false>(a, b), interleave<true>(a, b), interleave<false>(c, d),
                            interleave<true>(c, d)};
        SOFIE_UNROLL
        for (std::size_t l = 0; l < 4; ++l) std::memcpy(to + (i + l) * ld + j, &t[l], sizeof t[l]);
      }
      for (std::size_t l = 0; l < 4; ++l) {
        for (std::size_t j = whole; j < n; ++j) to[(i + l) * ld + j] = from[i + l + j * step_j];
      }
    }
  }
  for (; i < m; ++i) {
    for (std::size_t j = 0; j < n; ++j) to[i * ld + j] = from[i * step_i + j * step_j];
  }
}

// B[k][n] with strides to panels.
SOFIE_NOINLINE inline void pack_panels(std::size_t n, std::size_t k, const float* b, std::size_t b_sk,
                                       std::size_t b_sn, float* packed) {
  for (std::size_t p = 0; p < n; p += kPanel, packed += k * kPanel) {
    const std::size_t width = n - p < kPanel ? n - p : kPanel;
    copy_matrix(k, width, b + p * b_sn, b_sk, b_sn, packed, kPanel);
    if (width == kPanel) continue;
    for (std::size_t l = 0; l < k; ++l) {
      for (std::size_t j = width; j < kPanel; ++j) packed[l * kPanel + j] = 0.f;
    }
  }
}
}  // namespace detail

/// Batched product of two run-time operands: c[b0][b1][m][n] (contiguous) = epilogue(sum_k a * b, batch, i,
/// j) with batch = i0 * b1 + i1. All strides are in elements; 0 broadcasts.
/// @param workspace matmul_workspace(m, n, k, a_sk) elements, overwritten.
template <class B0, class B1, class M, class N, class K, class T, class E>
void matmul(B0 b0, B1 b1, M m, N n, K k, const T* a, std::size_t a_s0, std::size_t a_s1, std::size_t a_sm,
            std::size_t a_sk, const same<T>* b, std::size_t b_s0, std::size_t b_s1, std::size_t b_sk,
            std::size_t b_sn, T* c, T* workspace, E epilogue) {
  const T* packed = nullptr;  // the B that the workspace holds
  const std::size_t outer = b0, inner = b1, rows = m, columns = n, depth = k;
  for (std::size_t i0 = 0; i0 < outer; ++i0) {
    for (std::size_t i1 = 0; i1 < inner; ++i1) {
      const std::size_t batch = i0 * inner + i1;
      const T* x = a + i0 * a_s0 + i1 * a_s1;
      const T* y = b + i0 * b_s0 + i1 * b_s1;
      T* z = c + batch * rows * columns;
      auto finish = [&](auto acc, std::size_t i, auto j) SOFIE_INLINE { return epilogue(acc, batch, i, j); };
      if constexpr (std::is_same<T, float>::value) {
        std::size_t lda = a_sm;
        if (a_sk != 1) {
          float* copy = workspace + packed_size(columns, depth);
          detail::copy_matrix(rows, depth, x, a_sm, a_sk, copy, depth);
          x = copy;
          lda = depth;
        }
        // Packing pays when B is read often.
        if (b_sn == 1 && rows <= 2 * detail::kTileRows) {
          const std::size_t tail = columns / detail::kTileCols * detail::kTileCols;
          detail::pack_panels(columns - tail, depth, y + tail, b_sk, b_sn, workspace);
          detail::gemm_float(rows, n, depth, x, lda, {y, b_sk, tail, workspace}, z, columns, finish);
        } else {
          if (y != packed) {
            detail::pack_panels(columns, depth, y, b_sk, b_sn, workspace);
            packed = y;
          }
          gemm(m, n, k, x, lda, workspace, z, columns, finish);
        }
      } else {
        for (std::size_t i = 0; i < rows; ++i) {
          for (std::size_t j = 0; j < columns; ++j) {
            T sum = T(0);
            for (std::size_t l = 0; l < depth; ++l)
              sum = fma(x[i * a_sm + l * a_sk], y[l * b_sk + j * b_sn], sum);
            store(z + i * columns, Scalar{j}, finish(sum, i, Scalar{j}));
          }
        }
      }
    }
  }
}

}  // namespace SOFIE_ISA
}  // namespace sofie
