// Vectors of integers of at most 32 bits, and masks in memory: what simd.hxx has for floats.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include "simd.hxx"

namespace sofie {
inline namespace SOFIE_ISA {

/// kLanes integers of type T, each in a 32-bit lane.
template <class T>
struct Integers {
  i32v lanes;
};

namespace detail {
template <class T>
constexpr bool fits_lane = std::is_integral<T>::value && !std::is_same<T, bool>::value &&
                           (sizeof(T) < 4 || std::is_same<T, std::int32_t>::value);
/// Return type of functions for those T.
template <class T, class R>
using if_fits_lane = std::enable_if_t<fits_lane<T>, R>;

/// kLanes consecutive integers, each widened to a lane. Intrinsics, because g++ 12 converts vectors between
/// different sizes element by element.
template <class T>
SOFIE_INLINE inline i32v widen(const T* p) {
  constexpr bool is_signed = std::is_signed<T>::value;
  static_cast<void>(is_signed);
  if constexpr (sizeof(T) == 4) {
    i32v v;
    std::memcpy(&v, p, sizeof v);
    return v;
#if defined(SOFIE_ISA_AVX512)  // maskz: g++ 12 warns about an undefined operand inside the plain intrinsics
  } else if constexpr (sizeof(T) == 1) {
    const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return (i32v)(is_signed ? _mm512_maskz_cvtepi8_epi32(0xffff, b) : _mm512_maskz_cvtepu8_epi32(0xffff, b));
  } else {
    const __m256i b = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return (i32v)(is_signed ? _mm512_maskz_cvtepi16_epi32(0xffff, b)
                            : _mm512_maskz_cvtepu16_epi32(0xffff, b));
#elif defined(SOFIE_ISA_AVX2)
  } else if constexpr (sizeof(T) == 1) {
    const __m128i b = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
    return (i32v)(is_signed ? _mm256_cvtepi8_epi32(b) : _mm256_cvtepu8_epi32(b));
  } else {
    const __m128i b = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return (i32v)(is_signed ? _mm256_cvtepi16_epi32(b) : _mm256_cvtepu16_epi32(b));
#else
  } else {
    return i32v{p[0], p[1], p[2], p[3]};
#endif
  }
}

/// The low bits of each lane as kLanes consecutive integers.
template <class T>
SOFIE_INLINE inline void narrow(T* p, i32v v) {
  if constexpr (sizeof(T) == 4) {
    std::memcpy(p, &v, sizeof v);
#if defined(SOFIE_ISA_AVX512)
  } else if constexpr (sizeof(T) == 1) {
    const __m128i b = _mm512_maskz_cvtepi32_epi8(0xffff, (__m512i)v);
    std::memcpy(p, &b, sizeof b);
  } else {
    const __m256i b = _mm512_maskz_cvtepi32_epi16(0xffff, (__m512i)v);
    std::memcpy(p, &b, sizeof b);
#elif defined(SOFIE_ISA_AVX2)
  } else if constexpr (sizeof(T) == 1) {
    const __m256i low = _mm256_set1_epi32(0x0c080400);
    const __m256i b = _mm256_shuffle_epi8((__m256i)v, low);  // four bytes at the start of each half
    const std::int32_t halves[2] = {_mm256_extract_epi32(b, 0), _mm256_extract_epi32(b, 4)};
    std::memcpy(p, halves, sizeof halves);
  } else {
    const __m256i low = _mm256_set1_epi64x(0x0d0c090805040100);
    const __m256i b = _mm256_permute4x64_epi64(_mm256_shuffle_epi8((__m256i)v, low), 0x08);
    const __m128i half = _mm256_castsi256_si128(b);
    std::memcpy(p, &half, sizeof half);
#else
  } else {
    for (std::size_t l = 0; l < kLanes; ++l) p[l] = static_cast<T>(v[l]);
#endif
  }
}

/// The valid integers widened; the other lanes are 0 and touch no memory.
template <class T>
SOFIE_INLINE inline i32v widen(const T* p, Partial j) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  const __mmask16 valid = static_cast<__mmask16>((1u << j.n) - 1u);
  if constexpr (sizeof(T) == 4) {
    return (i32v)_mm512_maskz_loadu_epi32(valid, p + j.i);
  } else {  // cling cannot compile the narrower vectors' masked loads (clang 20 wants evex512 for them)
    const __m512i b =
        sizeof(T) == 2 ? _mm512_maskz_loadu_epi16(valid, p + j.i) : _mm512_maskz_loadu_epi8(valid, p + j.i);
    return widen(reinterpret_cast<const T*>(&b));
  }
#else
  T copy[kLanes] = {};
  for (std::size_t l = 0; l < j.n; ++l) copy[l] = p[j.i + l];
  return widen(copy);
#endif
}
template <class T>
SOFIE_INLINE inline void narrow(T* p, Partial j, i32v v) {
#if defined(SOFIE_ISA_AVX512)
  const __mmask16 valid = static_cast<__mmask16>((1u << j.n) - 1u);
  if constexpr (sizeof(T) == 4) {
    _mm512_mask_storeu_epi32(p + j.i, valid, (__m512i)v);
  } else if constexpr (sizeof(T) == 2) {
    _mm512_mask_cvtepi32_storeu_epi16(p + j.i, valid, (__m512i)v);
  } else {
    _mm512_mask_cvtepi32_storeu_epi8(p + j.i, valid, (__m512i)v);
  }
#else
  T copy[kLanes];
  narrow(copy, v);
  for (std::size_t l = 0; l < j.n; ++l) p[j.i + l] = copy[l];
#endif
}

/// The value that the low bits of each lane have as a T.
template <class T>
SOFIE_INLINE inline Integers<T> wrapped(u32v v) {
  constexpr int kUnused = 32 - 8 * static_cast<int>(sizeof(T));
  if constexpr (kUnused == 0) {
    return {(i32v)v};
  } else if constexpr (std::is_signed<T>::value) {
    return {(i32v)(v << kUnused) >> kUnused};
  } else {
    return {(i32v)(v & (0xffffffffu >> kUnused))};
  }
}
SOFIE_INLINE inline u32v repeat(std::uint32_t s) { return u32v{} + s; }
}  // namespace detail

// ---------------------------------------------------------------------------------------------------------
// Load, store
// ---------------------------------------------------------------------------------------------------------

template <class T>
SOFIE_INLINE inline detail::if_fits_lane<T, Integers<T>> load(const T* p, Full j) {
  return {detail::widen(p + j.i)};
}
template <class T>
SOFIE_INLINE inline detail::if_fits_lane<T, Integers<T>> load(const T* p, Partial j) {
  return {detail::widen(p, j)};
}
template <class T>
SOFIE_INLINE inline void store(T* p, Full j, Integers<T> v) {
  detail::narrow(p + j.i, v.lanes);
}
template <class T>
SOFIE_INLINE inline void store(T* p, Partial j, Integers<T> v) {
  detail::narrow(p, j, v.lanes);
}
/// A scalar stored through a vector index fills its valid lanes.
template <class T>
SOFIE_INLINE inline detail::if_fits_lane<T, void> store(T* p, Full j, same<T> s) {
  store(p, j, Integers<T>{(i32v)detail::repeat(static_cast<std::uint32_t>(s))});
}
template <class T>
SOFIE_INLINE inline detail::if_fits_lane<T, void> store(T* p, Partial j, same<T> s) {
  for (std::size_t l = 0; l < j.n; ++l) p[j.i + l] = s;
}

/// Masks are stored as bytes 0 and 1; any byte but 0 is read as true.
template <class J, class = std::enable_if_t<!std::is_same<J, Scalar>::value>>
SOFIE_INLINE inline i32v load(const bool* p, J j) {
  return load(reinterpret_cast<const std::uint8_t*>(p), j).lanes != i32v{};
}
template <class J, class = std::enable_if_t<!std::is_same<J, Scalar>::value>>
SOFIE_INLINE inline void store(bool* p, J j, i32v m) {
  store(reinterpret_cast<std::uint8_t*>(p), j, Integers<std::uint8_t>{m & 1});
}
template <class J, class = std::enable_if_t<!std::is_same<J, Scalar>::value>>
SOFIE_INLINE inline void store(bool* p, J j, bool b) {
  store(p, j, broadcast_mask(b));
}

// ---------------------------------------------------------------------------------------------------------
// Conversion, arithmetic
// ---------------------------------------------------------------------------------------------------------

/// As the scalar conversion: floats are truncated and saturate (NaN gives 0) ...
template <class To>
SOFIE_INLINE inline detail::if_fits_lane<To, Integers<To>> cast(f32v x) {
  using L = std::numeric_limits<To>;
  constexpr float low = static_cast<float>(L::min());
  // The largest float that the type holds.
  constexpr float high = sizeof(To) == 4 ? 2147483520.f : static_cast<float>(L::max());
  const f32v number = (x == x) ? x : f32v{};
  const f32v inside = detail::raw_min(detail::raw_max(number, broadcast(low)), broadcast(high));
  const i32v v = __builtin_convertvector(inside, i32v);
  if constexpr (sizeof(To) == 4) {
    return {(number > broadcast(high)) ? i32v{} + L::max() : v};
  } else {
    return {v};
  }
}
/// ... integers become the nearest float, and wrap where they become narrower integers.
template <class To, class T>
SOFIE_INLINE inline auto cast(Integers<T> x) {
  if constexpr (std::is_same<To, float>::value) {
    return __builtin_convertvector(x.lanes, f32v);
  } else if constexpr (std::is_same<To, T>::value) {
    return x;
  } else {
    return detail::wrapped<To>((u32v)x.lanes);
  }
}

// Sums, differences and products wrap around.
template <class T>
SOFIE_INLINE inline Integers<T> add(Integers<T> a, Integers<T> b) {
  return detail::wrapped<T>((u32v)a.lanes + (u32v)b.lanes);
}
template <class T>
SOFIE_INLINE inline Integers<T> sub(Integers<T> a, Integers<T> b) {
  return detail::wrapped<T>((u32v)a.lanes - (u32v)b.lanes);
}
template <class T>
SOFIE_INLINE inline Integers<T> mul(Integers<T> a, Integers<T> b) {
  return detail::wrapped<T>((u32v)a.lanes * (u32v)b.lanes);
}
template <class T>
SOFIE_INLINE inline Integers<T> add(Integers<T> a, same<T> b) {
  return detail::wrapped<T>((u32v)a.lanes + static_cast<std::uint32_t>(b));
}
template <class T>
SOFIE_INLINE inline Integers<T> sub(Integers<T> a, same<T> b) {
  return detail::wrapped<T>((u32v)a.lanes - static_cast<std::uint32_t>(b));
}
template <class T>
SOFIE_INLINE inline Integers<T> mul(Integers<T> a, same<T> b) {
  return detail::wrapped<T>((u32v)a.lanes * static_cast<std::uint32_t>(b));
}
template <class T>
SOFIE_INLINE inline Integers<T> add(same<T> a, Integers<T> b) {
  return add(b, a);
}
template <class T>
SOFIE_INLINE inline Integers<T> sub(same<T> a, Integers<T> b) {
  return detail::wrapped<T>(static_cast<std::uint32_t>(a) - (u32v)b.lanes);
}
template <class T>
SOFIE_INLINE inline Integers<T> mul(same<T> a, Integers<T> b) {
  return mul(b, a);
}

}  // namespace SOFIE_ISA
}  // namespace sofie
