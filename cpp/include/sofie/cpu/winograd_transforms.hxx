// Minimal filtering F(m, r) in one dimension: the transforms of winograd.hxx.
//
// The multiplication of polynomials by their values at n = m + r - 1 points (Toom and Cook), transposed. The
// matrices for any points: B. Barabasz et al., "Error analysis and improving the accuracy of Winograd
// convolution for deep neural networks", ACM TOMS 46 (2020).
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <utility>

#include "simd.hxx"

namespace sofie {
inline namespace SOFIE_ISA {
namespace detail {

// The points of interpolation are 0, +-p and infinity, in this order: 2 pairs make n = 6. These p gave the
// smallest errors among multiples of 1/16 (n = 4, 6) and 1/8 (n = 8) for normally distributed values; all
// products of them that the transforms need are exact in float.
template <std::size_t Pairs>
struct WinogradPoints;
template <>
struct WinogradPoints<1> {
  static constexpr double value[1] = {1.};
};
template <>
struct WinogradPoints<2> {
  static constexpr double value[2] = {.625, 1.5};
};
template <>
struct WinogradPoints<3> {
  static constexpr double value[3] = {.5, 1., 2.};
};

// Coefficients in z = x^2 of the product of (z - p^2) over all p but number `without`.
template <std::size_t Pairs>
struct WinogradPolynomial {
  float at[Pairs + 1];
};
template <std::size_t Pairs>
constexpr WinogradPolynomial<Pairs> winograd_polynomial(std::size_t without) {
  double a[Pairs + 1] = {1.};
  for (std::size_t i = 0; i < Pairs; ++i) {
    if (i == without) continue;
    const double p = WinogradPoints<Pairs>::value[i];
    for (std::size_t k = Pairs; k > 0; --k) a[k] = a[k - 1] - p * p * a[k];
    a[0] *= -p * p;
  }
  WinogradPolynomial<Pairs> result{};
  for (std::size_t k = 0; k <= Pairs; ++k) result.at[k] = static_cast<float>(a[k]);
  return result;
}

// Even and odd part of the values for a pair of points.
template <std::size_t Pairs, std::size_t J>
SOFIE_INLINE inline void winograd_pair(const f32v* d, f32v* out, std::size_t step) {
  constexpr WinogradPolynomial<Pairs> q = winograd_polynomial<Pairs>(J);
  constexpr float p = static_cast<float>(WinogradPoints<Pairs>::value[J]);
  f32v even = d[2 * Pairs], odd = d[2 * Pairs - 1];
  SOFIE_UNROLL
  for (std::size_t k = Pairs - 1; k > 0; --k) {
    even = fma(broadcast(q.at[k - 1]), d[2 * k], even);
    odd = fma(broadcast(q.at[k - 1]), d[2 * k - 1], odd);
  }
  out[(1 + 2 * J) * step] = fma(broadcast(p), odd, even);
  out[(2 + 2 * J) * step] = fma(broadcast(-p), odd, even);
}
template <std::size_t Pairs, std::size_t... J>
SOFIE_INLINE inline void winograd_pairs(const f32v* d, f32v* out, std::size_t step,
                                        std::index_sequence<J...>) {
  (winograd_pair<Pairs, J>(d, out, step), ...);
}

// out = B^T d for N values, the results `step` apart.
template <std::size_t N>
SOFIE_INLINE inline void winograd_forward(const f32v* d, f32v* out, std::size_t step) {
  if constexpr (N == 1) {
    out[0] = d[0];
  } else {
    constexpr std::size_t kPairs = N / 2 - 1;
    constexpr WinogradPolynomial<kPairs> q = winograd_polynomial<kPairs>(kPairs);
    f32v zero = d[2 * kPairs], infinity = d[2 * kPairs + 1];
    SOFIE_UNROLL
    for (std::size_t k = kPairs; k > 0; --k) {
      zero = fma(broadcast(q.at[k - 1]), d[2 * k - 2], zero);
      infinity = fma(broadcast(q.at[k - 1]), d[2 * k - 1], infinity);
    }
    out[0] = zero;
    out[(N - 1) * step] = infinity;
    winograd_pairs<kPairs>(d, out, step, std::make_index_sequence<kPairs>{});
  }
}

// p[j]^k
template <std::size_t Pairs>
constexpr float winograd_power(std::size_t j, std::size_t k) {
  double power = 1.;
  for (; k > 0; --k) power *= WinogradPoints<Pairs>::value[j];
  return static_cast<float>(power);
}
template <std::size_t N, std::size_t M, std::size_t K>
SOFIE_INLINE inline f32v winograd_value(const f32v* m, const f32v* sum, const f32v* difference) {
  constexpr std::size_t kPairs = N / 2 - 1;
  const f32v* const part = K % 2 == 0 ? sum : difference;
  f32v value = broadcast(winograd_power<kPairs>(0, K)) * part[0];
  if constexpr (K == 0) value = part[0] + m[0];
  if constexpr (K == M - 1) value = fma(broadcast(winograd_power<kPairs>(0, K)), part[0], m[N - 1]);
  static_assert(K != 0 || K != M - 1, "a tile has more than one value");
  if constexpr (kPairs > 1) value = fma(broadcast(winograd_power<kPairs>(1, K)), part[1], value);
  if constexpr (kPairs > 2) value = fma(broadcast(winograd_power<kPairs>(2, K)), part[2], value);
  return value;
}
template <std::size_t N, std::size_t M, std::size_t... K>
SOFIE_INLINE inline void winograd_values(const f32v* m, f32v* out, std::size_t step,
                                         std::index_sequence<K...>) {
  constexpr std::size_t kPairs = N / 2 - 1;
  f32v sum[kPairs], difference[kPairs];
  SOFIE_UNROLL
  for (std::size_t j = 0; j < kPairs; ++j) {
    sum[j] = m[1 + 2 * j] + m[2 + 2 * j];
    difference[j] = m[1 + 2 * j] - m[2 + 2 * j];
  }
  ((out[K * step] = winograd_value<N, M, K>(m, sum, difference)), ...);
}

// 1 / (the product of the differences between p[j] and the other points), the same for -p[j]; for the point
// 0 with j = Pairs.
template <std::size_t Pairs>
constexpr double winograd_scale(std::size_t j) {
  const double p = j < Pairs ? WinogradPoints<Pairs>::value[j] : 0.;
  double scale = j < Pairs ? 1. / (2. * p * p) : 1.;
  for (std::size_t i = 0; i < Pairs; ++i) {
    const double other = WinogradPoints<Pairs>::value[i];
    if (i != j) scale /= p * p - other * other;
  }
  return scale;
}
// scale * p^k
template <std::size_t Pairs>
constexpr float winograd_factor(std::size_t j, std::size_t k) {
  double factor = winograd_scale<Pairs>(j);
  for (; k > 0; --k) factor *= WinogradPoints<Pairs>::value[j];
  return static_cast<float>(factor);
}
template <std::size_t Pairs, std::size_t R, std::size_t J>
SOFIE_INLINE inline void winograd_weight_pair(const f32v* g, f32v* out, std::size_t step) {
  f32v even = broadcast(winograd_factor<Pairs>(J, 0)) * g[0],
       odd = broadcast(winograd_factor<Pairs>(J, 1)) * g[1];
  even = fma(broadcast(winograd_factor<Pairs>(J, 2)), g[2], even);
  if constexpr (R > 3) odd = fma(broadcast(winograd_factor<Pairs>(J, 3)), g[3], odd);
  if constexpr (R > 4) even = fma(broadcast(winograd_factor<Pairs>(J, 4)), g[4], even);
  out[(1 + 2 * J) * step] = even + odd;
  out[(2 + 2 * J) * step] = even - odd;
}
template <std::size_t Pairs, std::size_t R, std::size_t... J>
SOFIE_INLINE inline void winograd_weight_pairs(const f32v* g, f32v* out, std::size_t step,
                                               std::index_sequence<J...>) {
  (winograd_weight_pair<Pairs, R, J>(g, out, step), ...);
}

// out = G g: N values from R taps, `step` apart.
template <std::size_t N, std::size_t R>
SOFIE_INLINE inline void winograd_weight(const f32v* g, f32v* out, std::size_t step) {
  if constexpr (N == 1) {
    out[0] = g[0];
  } else {
    constexpr std::size_t kPairs = N / 2 - 1;
    static_assert(R == 3 || R == 5, "taps");
    out[0] = broadcast(winograd_factor<kPairs>(kPairs, 0)) * g[0];
    winograd_weight_pairs<kPairs, R>(g, out, step, std::make_index_sequence<kPairs>{});
    out[(N - 1) * step] = g[R - 1];
  }
}

// out = A^T m: M values from N, `step` apart.
template <std::size_t N, std::size_t M>
SOFIE_INLINE inline void winograd_backward(const f32v* m, f32v* out, std::size_t step) {
  if constexpr (N == 1) {
    out[0] = m[0];
  } else {
    winograd_values<N, M>(m, out, step, std::make_index_sequence<M>{});
  }
}

}  // namespace detail
}  // namespace SOFIE_ISA
}  // namespace sofie
