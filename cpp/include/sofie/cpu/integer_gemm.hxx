// Products of 8-bit integer matrices, exact in 32 bits (sums wrap around), with an epilogue.
//
// All combinations of signs come down to unsigned times signed bytes, what the instruction vpdpbusd
// multiplies: a signed left side is read with its sign bit flipped, which adds 128 to it and to its zero
// point. With z the zero points,
//   sum_k (a[i][k] - za[i]) (b[k][j] - zb[j])
//     = sum_k a[i][k] b[k][j] - za[i] sum_k (b[k][j] - zb[j]) - zb[j] sum_k a[i][k],
// so that the inner loop knows nothing of them. The tiles are those of gemm.hxx.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "simd.hxx"
#include "simd_integer.hxx"

namespace sofie {
inline namespace SOFIE_ISA {

/// Width of the panels of a packed right-hand side: B[K][N] is stored as signed bytes in the order
/// [ceil(N / 16)][ceil(K / 4)][16][4], zero padded, on every instruction set.
constexpr std::size_t kIntegerPanel = 16;

/// Bytes of a packed B[K][N].
constexpr std::size_t integer_packed_size(std::size_t n, std::size_t k) {
  return (n + kIntegerPanel - 1) / kIntegerPanel * kIntegerPanel * ((k + 3) / 4 * 4);
}

namespace detail {

#if defined(SOFIE_ISA_AVX512) && defined(__AVX512VNNI__)
#define SOFIE_VNNI 1
#elif defined(SOFIE_ISA_AVX2) && defined(__AVXVNNI__)
#define SOFIE_VNNI 1
#endif

#if defined(SOFIE_VNNI)
constexpr std::size_t kIntegerRows = kLanes == 16 ? 14 : 6;
#elif defined(SOFIE_ISA_AVX512)
constexpr std::size_t kIntegerRows = 8;
#else
constexpr std::size_t kIntegerRows = 4;
#endif
constexpr std::size_t kIntegerCols = 2 * kLanes;
constexpr std::size_t kIntegerBlockRows = 4 * kIntegerRows;
constexpr std::size_t kGroup = kIntegerPanel * 4;  // bytes of four rows of a panel

#if !defined(SOFIE_VNNI)
// Sums of two products of 16-bit integers in each lane; too small to overflow here.
SOFIE_INLINE inline i32v dot2(u32v a, u32v b) {
#if defined(SOFIE_ISA_AVX512) && defined(__AVX512BW__)
  return (i32v)_mm512_maskz_madd_epi16(0xffff, (__m512i)a, (__m512i)b);
#elif defined(SOFIE_ISA_AVX2)
  return (i32v)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__SSE2__) && !defined(SOFIE_ISA_AVX512)
  return (i32v)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
  return ((i32v)(a << 16) >> 16) * ((i32v)(b << 16) >> 16) + ((i32v)a >> 16) * ((i32v)b >> 16);
#endif
}
#endif

// sum plus the products of four unsigned bytes with four signed ones in each lane. Without the instruction
// bytes are widened to 16 bits: vpmaddubsw would saturate.
SOFIE_INLINE inline u32v dot4(u32v sum, u32v unsigned_bytes, u32v signed_bytes) {
#if defined(SOFIE_ISA_AVX512) && defined(SOFIE_VNNI)
  return (u32v)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)unsigned_bytes, (__m512i)signed_bytes);
#elif defined(SOFIE_ISA_AVX2) && defined(SOFIE_VNNI)
  return (u32v)_mm256_dpbusd_avx_epi32((__m256i)sum, (__m256i)unsigned_bytes, (__m256i)signed_bytes);
#else
  typedef std::uint16_t u16v __attribute__((vector_size(kLanes * 4)));
  typedef std::int16_t i16v __attribute__((vector_size(kLanes * 4)));
  const u16v u = (u16v)unsigned_bytes, s = (u16v)signed_bytes;
  const i16v even = (i16v)(s << 8) >> 8, odd = (i16v)s >> 8;
  return sum + (u32v)dot2((u32v)(u & 0xff), (u32v)even) + (u32v)dot2((u32v)(u >> 8), (u32v)odd);
#endif
}

// Four bytes in every lane, made unsigned.
template <class A>
SOFIE_INLINE inline u32v spread(std::uint32_t bytes) {
  const u32v v = u32v{} + bytes;
  return std::is_signed<A>::value ? v ^ 0x80808080u : v;
}
template <class A>
SOFIE_INLINE inline u32v load_group(const A* a) {
  std::uint32_t bytes;
  std::memcpy(&bytes, a, sizeof bytes);
  return spread<A>(bytes);
}
// The same of the `n` < 4 bytes that are left; B is zero beyond them.
template <class A>
SOFIE_INLINE inline u32v load_group(const A* a, std::size_t n) {
  std::uint32_t bytes = 0;
  for (std::size_t l = 0; l < n; ++l) bytes |= std::uint32_t(static_cast<std::uint8_t>(a[l])) << (8 * l);
  return spread<A>(bytes);
}
template <class B>
SOFIE_INLINE inline u32v load_bytes(const B* b) {
  u32v v;
  std::memcpy(&v, b, sizeof v);
  return v;
}

// sums[r][0 .. V vectors) = a[r][0 .. 4 * steps) * b, b given as two columns of vectors with ldb bytes
// between groups of four rows. One of a and b is taken as unsigned: b if its type says so, else a.
template <std::size_t R, std::size_t V, class A, class B>
SOFIE_NOINLINE void integer_tile(std::size_t steps, const A* a, std::size_t lda, const B* b0, const B* b1,
                                 std::size_t ldb, std::int32_t* sums) {
  constexpr bool kUnsignedRight = std::is_unsigned<B>::value;
  static_assert(!kUnsignedRight || std::is_signed<A>::value, "one of the two is signed");
  using Left = std::conditional_t<kUnsignedRight, std::uint8_t, A>;  // as it is, or made unsigned
  u32v acc[R][V];
  SOFIE_UNROLL
  for (std::size_t r = 0; r < R; ++r) {
    SOFIE_UNROLL
    for (std::size_t v = 0; v < V; ++v) acc[r][v] = u32v{};
  }
  for (std::size_t i = 0; i < steps; ++i) {
    u32v x[V];
    x[0] = load_bytes(b0);
    if constexpr (V == 2) x[1] = load_bytes(b1);
    b0 += ldb;
    b1 += ldb;
    SOFIE_UNROLL
    for (std::size_t r = 0; r < R; ++r) {
      const u32v s = load_group(reinterpret_cast<const Left*>(a + r * lda));
      SOFIE_UNROLL
      for (std::size_t v = 0; v < V; ++v) {
        acc[r][v] = kUnsignedRight ? dot4(acc[r][v], x[v], s) : dot4(acc[r][v], s, x[v]);
      }
    }
    a += 4;
  }
  SOFIE_UNROLL
  for (std::size_t r = 0; r < R; ++r) {
    SOFIE_UNROLL
    for (std::size_t v = 0; v < V; ++v)
      std::memcpy(sums + r * kIntegerCols + v * kLanes, &acc[r][v], sizeof(u32v));
  }
}

// All rows of a strip of V vectors of columns: tiles of kIntegerRows, then smaller ones for the rest.
template <std::size_t V, class A, class B, std::size_t R = kIntegerRows>
inline void integer_strip(std::size_t rows, std::size_t steps, const A* a, std::size_t lda, const B* b0,
                          const B* b1, std::size_t ldb, std::int32_t* sums) {
  for (; rows >= R; rows -= R, a += R * lda, sums += R * kIntegerCols) {
    integer_tile<R, V>(steps, a, lda, b0, b1, ldb, sums);
  }
  // 14 rows are followed by 8: numbers of channels are multiples of that.
  constexpr std::size_t kNext = R == 14 ? 8 : (R + 1) / 2;
  if constexpr (R > 1) integer_strip<V, A, B, kNext>(rows, steps, a, lda, b0, b1, ldb, sums);
}

// Adds the products of the last n < 4 columns of a, which are beyond the whole groups.
template <class A>
SOFIE_NOINLINE void integer_tail(std::size_t rows, std::size_t n, const A* a, std::size_t lda,
                                 const std::int8_t* b0, const std::int8_t* b1, std::int32_t* sums) {
  for (std::size_t r = 0; r < rows; ++r, a += lda, sums += kIntegerCols) {
    const u32v s = load_group(a, n);
    const u32v acc[2] = {dot4(load_bytes(sums), s, load_bytes(b0)),
                         dot4(load_bytes(sums + kLanes), s, load_bytes(b1))};
    std::memcpy(sums, acc, sizeof acc);
  }
}

// sums[0 .. 16) = a[0 .. k) * one panel. The panels follow each other in memory, so that a product with one
// row reads B as one stream; several panels side by side were slower by half.
template <class A>
SOFIE_NOINLINE void integer_row(std::size_t k, const A* a, const std::int8_t* b, std::int32_t* sums) {
  constexpr std::size_t kVectors = kIntegerPanel / kLanes;
  // Sums of their own for neighbouring steps hide the latency of dot4.
  constexpr std::size_t kSteps = kLanes == 4 ? 2 : 4;
  u32v acc[kSteps][kVectors];
  SOFIE_UNROLL
  for (std::size_t u = 0; u < kSteps; ++u) {
    SOFIE_UNROLL
    for (std::size_t v = 0; v < kVectors; ++v) acc[u][v] = u32v{};
  }
  std::size_t i = 0;
  for (; i + 4 * kSteps <= k; i += 4 * kSteps) {
    SOFIE_UNROLL
    for (std::size_t u = 0; u < kSteps; ++u) {
      const u32v s = load_group(a + i + 4 * u);
      SOFIE_UNROLL
      for (std::size_t v = 0; v < kVectors; ++v)
        acc[u][v] = dot4(acc[u][v], s, load_bytes(b + 4 * kLanes * v));
      b += kGroup;
    }
  }
  SOFIE_UNROLL
  for (std::size_t u = 1; u < kSteps; ++u) {
    SOFIE_UNROLL
    for (std::size_t v = 0; v < kVectors; ++v) acc[0][v] += acc[u][v];
  }
  for (; i < k; i += 4, b += kGroup) {
    const u32v s = i + 4 <= k ? load_group(a + i) : load_group(a + i, k - i);
    SOFIE_UNROLL
    for (std::size_t v = 0; v < kVectors; ++v) acc[0][v] = dot4(acc[0][v], s, load_bytes(b + 4 * kLanes * v));
  }
  std::memcpy(sums, acc[0], sizeof acc[0]);
}

// Sums of a block of rows and some columns from `column` on, which is a multiple of the strip's width;
// returns how many. Neither this nor what it calls depends on the epilogue.
template <class A>
SOFIE_NOINLINE std::size_t integer_sums(const std::int8_t* packed, std::size_t rows, std::size_t n,
                                        std::size_t k, const A* a, std::size_t lda, std::size_t column,
                                        std::int32_t* sums) {
  const std::size_t panel = (k + 3) / 4 * kGroup;
  const auto at = [&](std::size_t j) { return packed + j / kIntegerPanel * panel + j % kIntegerPanel * 4; };
  if (rows == 1) {
    integer_row(k, a, at(column), sums);
    return kIntegerPanel;
  }
  const bool two = n - column > kLanes;
  const std::int8_t *const b0 = at(column), *const b1 = two ? at(column + kLanes) : b0;
  const std::size_t steps = k / 4;
  if (two) {
    integer_strip<2>(rows, steps, a, lda, b0, b1, kGroup, sums);
  } else {
    integer_strip<1>(rows, steps, a, lda, b0, b1, kGroup, sums);
  }
  if (k % 4 != 0) {
    integer_tail(rows, k % 4, a + steps * 4, lda, b0 + steps * kGroup, b1 + steps * kGroup, sums);
  }
  return kIntegerCols;
}

// Sum of n bytes made unsigned.
template <class A>
SOFIE_NOINLINE std::uint32_t sum_bytes(std::size_t n, const A* a) {
  constexpr unsigned kSign = std::is_signed<A>::value ? 0x80 : 0;
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += static_cast<std::uint8_t>(a[i]) ^ kSign;
  return sum;
}

}  // namespace detail

/// c[i * ldc + j] = epilogue(sum_k (a[i * lda + k] - za[i]) (B[k][j] - zb[j]), i, j) for i < m, j < n.
///
/// The extents are `std::size_t` or `fixed<>`. The epilogue gets Integers<std::int32_t> and a Full or Partial
/// j; it returns a vector or a number that can be stored to c.
/// @param a bytes of either sign.
/// @param za zero point of row i at za[i * za_stride].
/// @param packed_b B in panels of kIntegerPanel columns, see there.
/// @param column_sums sum_k (B[k][j] - zb[j]).
/// @param zb zero point of each column of B; null if all are 0.
template <class M, class N, class K, class A, class C, class E>
void integer_gemm(M m, N n, K k, const A* a, std::size_t lda, const std::int32_t* za, std::size_t za_stride,
                  const std::int8_t* packed_b, const std::int32_t* column_sums, const std::int32_t* zb, C* c,
                  std::size_t ldc, E epilogue) {
  using namespace detail;
  constexpr std::size_t kRoom = kIntegerBlockRows * kIntegerCols;
  static_assert(kIntegerPanel <= kRoom, "room for a row");
  constexpr std::uint32_t flipped = std::is_signed<A>::value ? 128 : 0;
  alignas(64) std::int32_t sums[kRoom];
  std::uint32_t zeros[kIntegerBlockRows], row_sums[kIntegerBlockRows];
  for (std::size_t i = 0; i < m; i += kIntegerBlockRows) {
    const std::size_t rows = m - i < kIntegerBlockRows ? m - i : kIntegerBlockRows;
    for (std::size_t r = 0; r < rows; ++r) {
      zeros[r] = static_cast<std::uint32_t>(za[(i + r) * za_stride]) + flipped;
      row_sums[r] = zb == nullptr ? 0 : sum_bytes(k, a + (i + r) * lda);
    }
    for (std::size_t column = 0, next; column < n; column = next) {
      next = column + integer_sums(packed_b, rows, n, k, a + i * lda, lda, column, sums);
      for (std::size_t j = column; j < next && j < n; j += kLanes) {
        const auto all_rows = [&](auto columns) SOFIE_INLINE {
          const u32v all = (u32v)load(column_sums, columns).lanes;
          const u32v zero = zb == nullptr ? u32v{} : (u32v)load(zb, columns).lanes;
          for (std::size_t r = 0; r < rows; ++r) {
            u32v sum = (u32v)load(sums + r * kIntegerCols, Full{j - column}).lanes - zeros[r] * all;
            if (zb != nullptr) sum -= row_sums[r] * zero;
            store(c + (i + r) * ldc, columns, epilogue(Integers<std::int32_t>{(i32v)sum}, i + r, columns));
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

}  // namespace SOFIE_ISA
}  // namespace sofie
