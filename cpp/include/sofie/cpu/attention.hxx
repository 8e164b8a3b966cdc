// Attention in one kernel: softmax(score(Q K)) V, of which only some rows of scores exist at a time.
//
// For each head K and V are packed into panels; then, for a block of query rows, the scores are computed into
// the first-level cache, exponentiated there with the row's largest score subtracted, and multiplied by V;
// what divides by the sum of the exponentials is the last step, on the few columns of the result. A. Vaswani
// et al., "Attention is all you need" (2017), arXiv:1706.03762; never storing the scores whole is the idea of
// T. Dao et al., "FlashAttention" (2022), arXiv:2205.14135, whose running maximum is not needed here: a
// block's rows of scores fit the caches whole.
//
// Every sum runs strictly in the order of its index, so a row's result depends neither on the number of other
// rows nor on the block it falls into. A row of which all scores are -inf gives NaN, as the operators do one
// by one.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <type_traits>

#include "math.hxx"
#include "matmul.hxx"
#include "simd.hxx"

namespace sofie {
inline namespace SOFIE_ISA {

/// Rows of queries of which the workspace of attention holds the scores, on any instruction set.
constexpr std::size_t kAttentionRows = 14;

/// Elements of workspace that attention needs for m queries and n keys of size k and values of size d: K and
/// V packed, scores and sums of a block of rows, and Q if its rows are not contiguous.
constexpr std::size_t attention_workspace(std::size_t m, std::size_t n, std::size_t k, std::size_t d,
                                          std::size_t q_sk) {
  return packed_size(n, k) + packed_size(d, n) + kAttentionRows * (packed_size(n, 1) + packed_size(d, 1)) +
         (q_sk == 1 ? 0 : m * k);
}

namespace detail {

// Two vectors of columns of so many rows leave registers for the operands (32 of AVX-512, 16 otherwise).
#if defined(SOFIE_ISA_AVX512)
constexpr std::size_t kBlockQueries = 14;
#elif defined(SOFIE_ISA_AVX2)
constexpr std::size_t kBlockQueries = 6;
#else
constexpr std::size_t kBlockQueries = 4;
#endif
static_assert(kBlockQueries <= kAttentionRows, "the workspace holds a block");

// The right side of a product: column j of row i is at b[i * ld + j / kPanel * panel + j % kPanel].
struct Columns {
  const float* b;
  std::size_t ld, panel;
  const float* at(std::size_t j) const { return b + j / kPanel * panel + j % kPanel; }
};

// c[r][0 .. V vectors) = a[r][0 .. k) * b for R rows, the vectors of b beginning at b0 and b1.
template <std::size_t R, std::size_t V>
SOFIE_NOINLINE void attention_tile(std::size_t k, const float* a, std::size_t lda, const float* b0,
                                   const float* b1, std::size_t ldb, float* c, std::size_t ldc) {
  f32v acc[R][V];
  SOFIE_UNROLL
  for (std::size_t r = 0; r < R; ++r) {
    SOFIE_UNROLL
    for (std::size_t v = 0; v < V; ++v) acc[r][v] = f32v{};
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
    for (std::size_t v = 0; v < V; ++v) store(c + r * ldc, Full{v * kLanes}, acc[r][v]);
  }
}

// c[r][j] = sum_i a[r][i] * columns[i][j] for R rows, i < k, j < n rounded up to whole vectors.
template <std::size_t R>
void attention_product(std::size_t k, const float* a, std::size_t lda, const Columns& columns, std::size_t n,
                       float* c, std::size_t ldc) {
  std::size_t j = 0;
  for (; j + kLanes < n; j += 2 * kLanes) {
    attention_tile<R, 2>(k, a, lda, columns.at(j), columns.at(j + kLanes), columns.ld, c + j, ldc);
  }
  if (j < n) attention_tile<R, 1>(k, a, lda, columns.at(j), columns.at(j), columns.ld, c + j, ldc);
}

// Calls body(product, i, rows) for blocks of rows that cover [0, m). A last block may take rows once more
// that were done already: their results are the same bits, and a large tile is no slower than several small
// ones.
template <std::size_t R = kBlockQueries, class F>
SOFIE_INLINE inline void query_blocks(std::size_t m, const F& body, std::size_t i = 0) {
  for (; i + R <= m; i += R) body(attention_product<R>, i, R, 0);
  if constexpr (R > 1) {
    if (m >= R && m - i > R / 2) {
      body(attention_product<R>, m - R, R, R - (m - i));
    } else if (i < m) {
      query_blocks<(R + 1) / 2>(m, body, i);
    }
  }
}

// Scores of one row become exponentials in place; returns their sum. The row is padded to whole vectors.
template <class N, class F>
SOFIE_INLINE inline float exponentials(N n, float* row, const F& score) {
  const float least = -infinity<float>();
  f32v top = broadcast(least);
  map(n, [&](auto j) SOFIE_INLINE {
    f32v x = broadcast(score(load(row, Full{j.i}), j));
    if constexpr (std::is_same<decltype(j), Partial>::value) x = select(valid_lanes(j), x, least);
    store(row, Full{j.i}, x);
    top = raw_max(top, x);  // a NaN may get lost here, but its exponential makes the sum NaN
  });
  const f32v largest = broadcast(fold(top, [](f32v a, f32v b) SOFIE_INLINE { return raw_max(a, b); }));
  f32v total{};
  for (std::size_t j = 0; j < n; j += kLanes) {
    const f32v e = exp_below(load(row, Full{j}) - largest);
    store(row, Full{j}, e);
    total += e;
  }
  return fold(total, [](f32v a, f32v b) SOFIE_INLINE { return a + b; });
}

}  // namespace detail

/// out[b0][b1][m][d] = softmax over n of score(sum_k q * key) times v. All strides are in elements; 0
/// broadcasts.
/// @param score gets a vector of products, the batch index i0 * b1 + i1, the row, and a Full or Partial
/// column
///   of keys, and returns the vector (or float) that the softmax is taken of: scale, bias and mask.
/// @param workspace attention_workspace(m, n, k, d, q_sk) elements, overwritten.
template <class B0, class B1, class M, class N, class K, class D, class S>
void attention(B0 b0, B1 b1, M m, N n, K k, D d, const float* q, std::size_t q_s0, std::size_t q_s1,
               std::size_t q_sm, std::size_t q_sk, const float* key, std::size_t k_s0, std::size_t k_s1,
               std::size_t k_sk, std::size_t k_sn, const float* v, std::size_t v_s0, std::size_t v_s1,
               std::size_t v_sn, std::size_t v_sd, float* out, std::size_t o_s0, std::size_t o_s1,
               std::size_t o_sm, std::size_t o_sd, float* workspace, S score) {
  const std::size_t outer = b0, inner = b1, queries = m, keys = n, depth = k, width = d;
  const std::size_t ld_scores = packed_size(keys, 1), ld_sums = packed_size(width, 1);
  float* packed_k = workspace;
  float* packed_v = packed_k + packed_size(keys, depth);
  float* scores = packed_v + packed_size(width, keys);
  float* sums = scores + kAttentionRows * ld_scores;
  float* packed_q = sums + kAttentionRows * ld_sums;
  const float *last_k = nullptr, *last_v = nullptr;  // what is packed
  for (std::size_t i0 = 0; i0 < outer; ++i0) {
    for (std::size_t i1 = 0; i1 < inner; ++i1) {
      const float* x = q + i0 * q_s0 + i1 * q_s1;
      const float* y = key + i0 * k_s0 + i1 * k_s1;
      const float* w = v + i0 * v_s0 + i1 * v_s1;
      float* z = out + i0 * o_s0 + i1 * o_s1;
      std::size_t ldq = q_sm;
      if (q_sk != 1) {
        detail::copy_matrix(queries, depth, x, q_sm, q_sk, packed_q, depth);
        x = packed_q;
        ldq = depth;
      }
      if (y != last_k) detail::pack_panels(keys, depth, y, k_sk, k_sn, packed_k);
      last_k = y;
      detail::Columns values{w, v_sn, kPanel};
      if (v_sd != 1 || width % kLanes != 0) {
        if (w != last_v) detail::pack_panels(width, keys, w, v_sn, v_sd, packed_v);
        last_v = w;
        values = {packed_v, kPanel, keys * kPanel};
      }
      const detail::Columns packed{packed_k, kPanel, depth * kPanel};
      const std::size_t batch = i0 * inner + i1;
      detail::query_blocks(queries, [&](auto* product, std::size_t i, std::size_t rows, std::size_t done) {
        product(depth, x + i * ldq, ldq, packed, keys, scores, ld_scores);
        float totals[kAttentionRows];
        for (std::size_t r = done; r < rows; ++r) {
          totals[r] = detail::exponentials(n, scores + r * ld_scores, [&](f32v acc, auto j) SOFIE_INLINE {
            return score(acc, batch, i + r, j);
          });
        }
        product(keys, scores, ld_scores, values, width, sums, ld_sums);
        for (std::size_t r = done; r < rows; ++r) {
          // Without keys the sum of nothing is 0, as it is in a product without steps.
          const float factor = keys == 0 ? 0.f : divide(1.f, totals[r]);
          float* row = z + (i + r) * o_sm;
          map(d, [&](auto j) SOFIE_INLINE {
            const f32v value = load(sums + r * ld_sums, Full{j.i}) * factor;
            if (o_sd == 1) {
              store(row, j, value);
            } else {
              scatter(row, o_sd, j, value);
            }
          });
        }
      });
    }
  }
}

}  // namespace SOFIE_ISA
}  // namespace sofie
