// Batched matrix product of two run-time operands with any strides, with an epilogue.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <type_traits>

#include "copy_matrix.hxx"
#include "gemm.hxx"
#include "simd.hxx"

namespace sofie {
inline namespace SOFIE_ISA {

/// Elements of workspace that matmul needs, for the packed right-hand side.
constexpr std::size_t matmul_workspace(std::size_t n, std::size_t k) { return packed_size(n, k); }

namespace detail {
// A right-hand side whose rows are contiguous is read where it lies if there are at most so many rows on the
// left; packing pays where it is read often.
constexpr std::size_t kDirectRows = 28;

// B[k][n] with strides to panels.
SOFIE_NOINLINE inline void pack_panels(std::size_t n, std::size_t k, const float* b, std::size_t b_sk,
                                       std::size_t b_sn, float* packed) {
  for (std::size_t p = 0; p < n; p += kPanel, packed += k * kPanel) {
    const std::size_t width = n - p < kPanel ? n - p : kPanel;
    if (width < kPanel) {
      for (std::size_t i = 0; i < k * kPanel; ++i) packed[i] = 0.f;
    }
    copy_matrix(k, width, b + p * b_sn, b_sk, b_sn, packed, kPanel);
  }
}
}  // namespace detail

/// Batched product of two run-time operands: c[b0][b1][m][n] (contiguous) = epilogue(sum_k a * b, batch, i,
/// j) with batch = i0 * b1 + i1. All strides are in elements; 0 broadcasts.
/// @param workspace matmul_workspace(n, k) elements, overwritten.
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
      auto finish = [&] {
        if constexpr (std::is_same<E, Identity>::value) {
          return epilogue;
        } else {
          return [&epilogue, batch](auto acc, std::size_t i, auto j)
                     SOFIE_INLINE { return epilogue(acc, batch, i, j); };
        }
      }();
      if constexpr (std::is_same<T, float>::value) {
        const detail::LeftSide left{x, a_sm, a_sk};
        if (b_sn == 1 && rows <= detail::kDirectRows) {
          const std::size_t tail = columns / detail::kTileCols * detail::kTileCols;
          detail::pack_panels(columns - tail, depth, y + tail, b_sk, b_sn, workspace);
          detail::gemm_float(rows, columns, depth, left, {y, b_sk, tail, workspace}, z, columns, finish);
          continue;
        }
        if (y != packed) {
          detail::pack_panels(columns, depth, y, b_sk, b_sn, workspace);
          packed = y;
        }
        const detail::RightSide right{nullptr, 0, 0, workspace};
        if (a_sk == 1) {
          detail::gemm_float(rows, n, depth, left, right, z, columns, finish);
        } else {
          detail::gemm_float(rows, columns, depth, left, right, z, columns, finish);
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
