// Vectors of floats whose width follows the instruction set the header is compiled for, and the index tags
// with which one generic lambda serves full vectors, the last partial vector and plain scalars.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "../core/basics.hxx"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace sofie {
inline namespace SOFIE_ISA {

// ---------------------------------------------------------------------------------------------------------
// Types
// ---------------------------------------------------------------------------------------------------------

/// Number of floats in one vector.
#if defined(SOFIE_ISA_AVX512)
constexpr std::size_t kLanes = 16;
#elif defined(SOFIE_ISA_AVX2)
constexpr std::size_t kLanes = 8;
#else
constexpr std::size_t kLanes = 4;
#endif

/// kLanes floats; arithmetic and comparisons are the plain operators.
typedef float f32v __attribute__((vector_size(kLanes * sizeof(float))));
/// kLanes 32-bit integers. As a mask (the result of comparing two f32v) each lane is 0 or -1.
typedef std::int32_t i32v __attribute__((vector_size(kLanes * sizeof(std::int32_t))));
/// kLanes unsigned integers, for bit tricks.
typedef std::uint32_t u32v __attribute__((vector_size(kLanes * sizeof(std::uint32_t))));

/// Index of a single element.
struct Scalar {
  std::size_t i;
};
/// Index of kLanes consecutive elements, i ... i + kLanes - 1.
struct Full {
  std::size_t i;
};
/// Index of n < kLanes consecutive elements; the other lanes never touch memory, loads give 0 there.
struct Partial {
  std::size_t i;
  std::size_t n;
};

/// The same place with all lanes: for memory with room for whole vectors, of which the other lanes are not
/// used. (Masked stores are slow to read again.)
SOFIE_INLINE constexpr Full whole(Full j) { return j; }
SOFIE_INLINE constexpr Full whole(Partial j) { return {j.i}; }

template <class V>
constexpr bool is_vector = std::is_same<V, f32v>::value;
template <class V>
constexpr bool is_mask = std::is_same<V, i32v>::value;

// ---------------------------------------------------------------------------------------------------------
// Broadcast, bits
// ---------------------------------------------------------------------------------------------------------

namespace detail {
template <std::size_t... L>
SOFIE_INLINE inline f32v repeat(float s, std::index_sequence<L...>) {
  return f32v{(static_cast<void>(L), s)...};
}
template <class F, std::size_t... L>
SOFIE_INLINE inline f32v make_lanes(F& f, std::index_sequence<L...>) {
  return f32v{static_cast<float>(f(L))...};
}
using AllLanes = std::make_index_sequence<kLanes>;
}  // namespace detail

/// A vector with s in every lane; the identity for vectors.
SOFIE_INLINE inline f32v broadcast(float s) { return detail::repeat(s, detail::AllLanes{}); }
SOFIE_INLINE inline f32v broadcast(f32v v) { return v; }

/// A mask of all lanes or none; the identity for masks.
SOFIE_INLINE inline i32v broadcast_mask(bool b) { return i32v{} - static_cast<std::int32_t>(b); }
SOFIE_INLINE inline i32v broadcast_mask(i32v m) { return m; }

SOFIE_INLINE inline std::uint32_t to_bits(float x) {
  std::uint32_t u;
  std::memcpy(&u, &x, sizeof u);
  return u;
}
SOFIE_INLINE inline float from_bits(std::uint32_t u) {
  float x;
  std::memcpy(&x, &u, sizeof x);
  return x;
}
SOFIE_INLINE inline u32v to_bits(f32v x) { return (u32v)x; }
SOFIE_INLINE inline f32v from_bits(u32v u) { return (f32v)u; }

/// 0, 1, 2, ... in the lanes.
SOFIE_INLINE inline f32v lane_numbers() {
  auto number = [](std::size_t l) SOFIE_INLINE { return l; };
  return detail::make_lanes(number, detail::AllLanes{});
}

/// The mask of the lanes that an index makes valid.
SOFIE_INLINE inline i32v valid_lanes(Full) { return broadcast_mask(true); }
SOFIE_INLINE inline i32v valid_lanes(Partial j) {
  return lane_numbers() < broadcast(static_cast<float>(j.n));
}

// ---------------------------------------------------------------------------------------------------------
// What -ffast-math must not touch
// ---------------------------------------------------------------------------------------------------------

// At the beginning of a function: its sums stay in the order in which they are written, and its divisions
// are divisions. For g++, detail::opaque does it.
#if defined(__clang__)
#define SOFIE_PRECISE _Pragma("float_control(precise, on)")
#else
#define SOFIE_PRECISE
#endif

// With -ffast-math compilers make x / y and sqrt(x) from a rough guess and one Newton step, which makes
// 1 / infinity NaN: a sigmoid written as 1 / (1 + exp(-x)) loses its tail. g++ does so only where it also
// assumes that there is no infinity.
#if defined(__SSE2__) && !defined(__clang__) && defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
#define SOFIE_SPELL_DIVISION 1
#endif

namespace detail {
/// x as a number that the compiler knows nothing about. With -ffast-math it treats floats as real numbers:
/// (x + big) - big, of which rounding is made, would be x. No instruction comes of this.
template <class T>
SOFIE_INLINE inline T opaque(T x) {
#if !defined(__clang__)
#if defined(__FAST_MATH__) || defined(__ASSOCIATIVE_MATH__) || __GNUC__ < 12
  constexpr bool reorders = true;
#else
  constexpr bool reorders = false;
#endif
  // Scalars are left alone where nothing is reordered: g++ could not make vectors of them.
  if constexpr (reorders || is_vector<T>) asm("" : "+" SOFIE_FLOAT_REGISTER(x));
#endif
  return x;
}
}  // namespace detail

/// a / b, correctly rounded with -ffast-math too.
SOFIE_INLINE inline float divide(float a, float b) {
  SOFIE_PRECISE
#if defined(SOFIE_SPELL_DIVISION) && defined(__AVX__)
  asm("vdivss %1, %0, %0" : "+" SOFIE_FLOAT_REGISTER(a) : SOFIE_FLOAT_REGISTER(b));
  return a;
#elif defined(SOFIE_SPELL_DIVISION)
  asm("divss %1, %0" : "+x"(a) : "x"(b));
  return a;
#else
  return a / b;
#endif
}
SOFIE_INLINE inline f32v divide(f32v a, f32v b) {
  SOFIE_PRECISE
#if defined(SOFIE_SPELL_DIVISION) && defined(__AVX__)
  asm("vdivps %1, %0, %0" : "+" SOFIE_FLOAT_REGISTER(a) : SOFIE_FLOAT_REGISTER(b));
  return a;
#elif defined(SOFIE_SPELL_DIVISION)
  asm("divps %1, %0" : "+x"(a) : "x"(b));
  return a;
#else
  return a / b;
#endif
}
SOFIE_INLINE inline f32v divide(f32v a, float b) { return divide(a, broadcast(b)); }
SOFIE_INLINE inline f32v divide(float a, f32v b) { return divide(broadcast(a), b); }
SOFIE_INLINE inline double divide(double a, double b) { return a / b; }

// ---------------------------------------------------------------------------------------------------------
// Load, store, gather
// ---------------------------------------------------------------------------------------------------------

template <class T>
SOFIE_INLINE inline T load(const T* p, Scalar j) {
  return p[j.i];
}

SOFIE_INLINE inline f32v load(const float* p, Full j) {
  f32v v;
  std::memcpy(&v, p + j.i, sizeof v);
  return v;
}

SOFIE_INLINE inline f32v load(const float* p, Partial j) {
#if defined(SOFIE_ISA_AVX512)
  return (f32v)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << j.n) - 1u), p + j.i);
#elif defined(SOFIE_ISA_AVX2)
  return (f32v)_mm256_maskload_ps(p + j.i, (__m256i)valid_lanes(j));
#else
  p += j.i;
  return f32v{p[0], j.n > 1 ? p[1] : 0.f, j.n > 2 ? p[2] : 0.f, 0.f};
#endif
}

template <class T, class U>
SOFIE_INLINE inline void store(T* p, Scalar j, U v) {
  p[j.i] = static_cast<T>(v);
}

SOFIE_INLINE inline void store(float* p, Full j, f32v v) { std::memcpy(p + j.i, &v, sizeof v); }

SOFIE_INLINE inline void store(float* p, Partial j, f32v v) {
#if defined(SOFIE_ISA_AVX512)
  _mm512_mask_storeu_ps(p + j.i, static_cast<__mmask16>((1u << j.n) - 1u), (__m512)v);
#elif defined(SOFIE_ISA_AVX2)
  _mm256_maskstore_ps(p + j.i, (__m256i)valid_lanes(j), (__m256)v);
#else
  p += j.i;
  p[0] = v[0];
  if (j.n > 1) p[1] = v[1];
  if (j.n > 2) p[2] = v[2];
#endif
}

/// A scalar stored through a vector index fills its valid lanes.
SOFIE_INLINE inline void store(float* p, Full j, float v) { store(p, j, broadcast(v)); }
SOFIE_INLINE inline void store(float* p, Partial j, float v) { store(p, j, broadcast(v)); }

/// lane l = f(j.i + l), evaluated for valid lanes only (the others repeat one of them). A predicate (f
/// returns bool) gives a mask.
template <class F>
SOFIE_INLINE inline auto lanes(Scalar j, F f) {
  return f(j.i);
}
template <class F>
SOFIE_INLINE inline auto lanes(Full j, F f) {
  if constexpr (std::is_same<decltype(f(j.i)), bool>::value) {
    auto g = [&](std::size_t l) SOFIE_INLINE { return f(j.i + l) ? 1.f : 0.f; };
    return detail::make_lanes(g, detail::AllLanes{}) != f32v{};
  } else {
    auto g = [&](std::size_t l) SOFIE_INLINE { return f(j.i + l); };
    return detail::make_lanes(g, detail::AllLanes{});
  }
}
template <class F>
SOFIE_INLINE inline auto lanes(Partial j, F f) {
  // The other lanes repeat the last valid one: quicker than a loop over memory.
  return lanes(Full{0}, [&](std::size_t l) SOFIE_INLINE { return f(j.i + (l < j.n ? l : j.n - 1)); });
}

/// p[(j.i + l) * stride] in lane l. Lanes are inserted one by one: on the machines of today that is as fast
/// as the gather instructions.
template <class T, class J>
SOFIE_INLINE inline auto gather(const T* p, std::size_t stride, J j) {
  // Signed, so that a negative stride that went through size_t works.
  return lanes(j, [&](std::size_t i) SOFIE_INLINE {
    return p[static_cast<std::ptrdiff_t>(i) * static_cast<std::ptrdiff_t>(stride)];
  });
}

/// p[positions[j.i + l]] in lane l.
template <class T, class J>
SOFIE_INLINE inline auto gather(const T* p, const std::int64_t* positions, J j) {
  return lanes(j, [&](std::size_t i) SOFIE_INLINE { return p[positions[i]]; });
}

/// p[(j.i + l) * stride] = v[l] for the valid lanes.
SOFIE_INLINE inline void scatter(float* p, std::size_t stride, Full j, f32v v) {
  for (std::size_t l = 0; l < kLanes; ++l) p[(j.i + l) * stride] = v[l];
}
SOFIE_INLINE inline void scatter(float* p, std::size_t stride, Partial j, f32v v) {
  for (std::size_t l = 0; l < j.n; ++l) p[(j.i + l) * stride] = v[l];
}

/// kLanes floats p[0], p[2], ...; reads nothing beyond the last of them.
SOFIE_INLINE inline f32v load_every_second(const float* p) {
  const f32v a = load(p, Full{0}), b = load(p + kLanes - 1, Full{0});
#if defined(__clang__)
#if defined(SOFIE_ISA_AVX512)
  return __builtin_shufflevector(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29, 31);
#elif defined(SOFIE_ISA_AVX2)
  return __builtin_shufflevector(a, b, 0, 2, 4, 6, 9, 11, 13, 15);
#else
  return __builtin_shufflevector(a, b, 0, 2, 5, 7);
#endif
#else
#if defined(SOFIE_ISA_AVX512)
  return __builtin_shuffle(a, b, (i32v){0, 2, 4, 6, 8, 10, 12, 14, 17, 19, 21, 23, 25, 27, 29, 31});
#elif defined(SOFIE_ISA_AVX2)
  return __builtin_shuffle(a, b, (i32v){0, 2, 4, 6, 9, 11, 13, 15});
#else
  return __builtin_shuffle(a, b, (i32v){0, 2, 5, 7});
#endif
#endif
}

/// The indices themselves as floats.
SOFIE_INLINE inline float iota(Scalar j) { return static_cast<float>(j.i); }
template <class J>
SOFIE_INLINE inline f32v iota(J j) {
  // Added as integers: exact lane by lane up to 2^24, rounded as the scalar conversion is beyond.
  u32v u = u32v{} + static_cast<std::uint32_t>(j.i);
  u += __builtin_convertvector(lane_numbers(), u32v);
  return __builtin_convertvector(u, f32v);
}

// ---------------------------------------------------------------------------------------------------------
// Arithmetic that operators do not spell
// ---------------------------------------------------------------------------------------------------------

/// a * b + c, rounded once where the instruction set has fused multiply-add (and in all lanes and scalars
/// alike, so that an element's value does not depend on whether it fell into a vector).
SOFIE_INLINE inline f32v fma(f32v a, f32v b, f32v c) {
  SOFIE_PRECISE
#if defined(SOFIE_ISA_AVX512)
  return (f32v)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(SOFIE_ISA_AVX2)
  return (f32v)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  return a * b + c;
#endif
}
SOFIE_INLINE inline float fma(float a, float b, float c) {
  SOFIE_PRECISE
#if defined(SOFIE_ISA_AVX512) || defined(SOFIE_ISA_AVX2)
  return __builtin_fmaf(a, b, c);
#else
  return a * b + c;
#endif
}
SOFIE_INLINE inline double fma(double a, double b, double c) {
  SOFIE_PRECISE
#if defined(SOFIE_ISA_AVX512) || defined(SOFIE_ISA_AVX2)
  return __builtin_fma(a, b, c);
#else
  return a * b + c;
#endif
}
/// Mixed vectors and scalars; other types multiply and add.
template <class A, class B, class C>
SOFIE_INLINE inline auto fma(A a, B b, C c) {
  if constexpr (is_vector<A> || is_vector<B> || is_vector<C>) {
    return fma(broadcast(a), broadcast(b), broadcast(c));
  } else {
    using T = std::common_type_t<A, B, C>;
    if constexpr (std::is_integral<T>::value) {
      // Wraps on overflow, as numpy and ONNX Runtime do.
      using U = std::conditional_t<(sizeof(T) < sizeof(unsigned)), unsigned, std::make_unsigned_t<T>>;
      return static_cast<T>(static_cast<U>(a) * static_cast<U>(b) + static_cast<U>(c));
    } else {
      return fma(static_cast<T>(a), static_cast<T>(b), static_cast<T>(c));
    }
  }
}

/// mask ? a : b, lane by lane; scalars broadcast.
template <class A, class B>
SOFIE_INLINE inline auto select(i32v mask, A a, B b) {
  if constexpr ((is_mask<A> || std::is_same<A, bool>::value) &&
                (is_mask<B> || std::is_same<B, bool>::value)) {
    const i32v x = broadcast_mask(a), y = broadcast_mask(b);
    return (mask & x) | (~mask & y);
  } else {
    const f32v x = broadcast(a), y = broadcast(b);
    return mask ? x : y;
  }
}
template <class A, class B>
SOFIE_INLINE inline auto select(bool mask, A a, B b) {
  if constexpr (is_vector<A> || is_vector<B>) {
    return mask ? broadcast(a) : broadcast(b);
  } else if constexpr (is_mask<A> || is_mask<B>) {
    return mask ? broadcast_mask(a) : broadcast_mask(b);
  } else {
    using T = std::common_type_t<A, B>;
    return mask ? static_cast<T>(a) : static_cast<T>(b);
  }
}

template <class A, class B>
SOFIE_INLINE inline auto logical_and(A a, B b) {
  if constexpr (is_mask<A> || is_mask<B>) {
    return broadcast_mask(a) & broadcast_mask(b);
  } else {
    return a && b;
  }
}
template <class A, class B>
SOFIE_INLINE inline auto logical_or(A a, B b) {
  if constexpr (is_mask<A> || is_mask<B>) {
    return broadcast_mask(a) | broadcast_mask(b);
  } else {
    return a || b;
  }
}
template <class A, class B>
SOFIE_INLINE inline auto logical_xor(A a, B b) {
  if constexpr (is_mask<A> || is_mask<B>) {
    return broadcast_mask(a) ^ broadcast_mask(b);
  } else {
    return static_cast<bool>(a) != static_cast<bool>(b);
  }
}
SOFIE_INLINE inline i32v logical_not(i32v a) { return ~a; }
SOFIE_INLINE inline bool logical_not(bool a) { return !a; }

namespace detail {
// The hardware's max and min: (a > b ? a : b) and (a < b ? a : b), so b where either is NaN.
SOFIE_INLINE inline f32v raw_max(f32v a, f32v b) {
#if defined(SOFIE_ISA_AVX512)  // maskz: g++ 12 warns about an undefined operand inside the plain intrinsic
  return (f32v)_mm512_maskz_max_ps(0xffff, (__m512)a, (__m512)b);
#elif defined(SOFIE_ISA_AVX2)
  return (f32v)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(__SSE2__)
  return (f32v)_mm_max_ps((__m128)a, (__m128)b);
#else
  return (a > b) ? a : b;
#endif
}
SOFIE_INLINE inline f32v raw_min(f32v a, f32v b) {
#if defined(SOFIE_ISA_AVX512)
  return (f32v)_mm512_maskz_min_ps(0xffff, (__m512)a, (__m512)b);
#elif defined(SOFIE_ISA_AVX2)
  return (f32v)_mm256_min_ps((__m256)a, (__m256)b);
#elif defined(__SSE2__)
  return (f32v)_mm_min_ps((__m128)a, (__m128)b);
#else
  return (a < b) ? a : b;
#endif
}
}  // namespace detail

/// The larger one; NaN if either is (as ONNX Runtime's Max and Relu).
template <class A, class B>
SOFIE_INLINE inline auto max(A a, B b) {
  if constexpr (is_vector<A> && is_vector<B>) {
    return (a != a) ? a : detail::raw_max(a, b);
  } else if constexpr (is_vector<A>) {
    // The scalar first: the instruction then hands on a NaN of the vector, and a constant needs no second
    // test.
    const f32v s = broadcast(static_cast<float>(b));
    return b != b ? s : detail::raw_max(s, a);
  } else if constexpr (is_vector<B>) {
    return max(b, a);
  } else {
    using T = std::common_type_t<A, B>;
    const T x = static_cast<T>(a), y = static_cast<T>(b);
    return (x > y || x != x) ? x : y;
  }
}
/// The smaller one; NaN if either is.
template <class A, class B>
SOFIE_INLINE inline auto min(A a, B b) {
  if constexpr (is_vector<A> && is_vector<B>) {
    return (a != a) ? a : detail::raw_min(a, b);
  } else if constexpr (is_vector<A>) {
    const f32v s = broadcast(static_cast<float>(b));
    return b != b ? s : detail::raw_min(s, a);
  } else if constexpr (is_vector<B>) {
    return min(b, a);
  } else {
    using T = std::common_type_t<A, B>;
    const T x = static_cast<T>(a), y = static_cast<T>(b);
    return (x < y || x != x) ? x : y;
  }
}

/// Conversion with C++ semantics, defined everywhere: floating point to integer truncates and saturates (NaN
/// gives 0), anything to bool is x != 0, a mask to float is 0 or 1.
template <class To, class From>
SOFIE_INLINE inline auto cast(From x) {
  if constexpr (is_mask<From>) {
    if constexpr (std::is_same<To, bool>::value) {
      return x;
    } else {
      return select(x, 1.f, 0.f);
    }
  } else if constexpr (is_vector<From>) {
    if constexpr (std::is_same<To, bool>::value) {
      return x != f32v{};
    } else {
      static_assert(std::is_same<To, float>::value,
                    "vectors hold floats; use Scalar indices for other types");
      return x;
    }
  } else if constexpr (std::is_same<To, bool>::value) {
    return x != From(0);
  } else if constexpr (std::is_integral<To>::value && std::is_floating_point<From>::value) {
    using L = std::numeric_limits<To>;
    // -min is a power of two (or 0) and exact in floating point; max may not be, max + 1 is.
    constexpr From top = static_cast<From>(L::max() / 2 + 1) * From(2);
    return x != x                             ? To(0)
           : x >= top                         ? L::max()
           : x <= static_cast<From>(L::min()) ? L::min()
                                              : static_cast<To>(x);
  } else {
    return static_cast<To>(x);
  }
}

// ---------------------------------------------------------------------------------------------------------
// Loops
// ---------------------------------------------------------------------------------------------------------

/// Calls body(Full{i}) for the whole vectors of n elements, and body(Partial{i, rest}) once for the rest.
template <class N, class F>
SOFIE_INLINE inline void map(N n, F&& body) {
  const std::size_t whole = std::size_t(n) / kLanes * kLanes;
  for (std::size_t i = 0; i < whole; i += kLanes) body(Full{i});
  if constexpr (is_fixed<N>::value) {
    if constexpr (N::value % kLanes != 0) body(Partial{whole, N::value % kLanes});
  } else {
    if (whole < n) body(Partial{whole, n - whole});
  }
}

namespace detail {
// The lanes of a and b (numbered behind those of a) with these numbers.
template <std::size_t... L>
SOFIE_INLINE inline f32v shuffle(f32v a, f32v b, std::index_sequence<L...>) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, static_cast<int>(L)...);
#else
  return __builtin_shuffle(a, b, i32v{static_cast<std::int32_t>(L)...});
#endif
}
// Lane l of the result is lane l ^ Distance.
template <std::size_t Distance, std::size_t... L>
SOFIE_INLINE inline f32v swap_lanes(f32v v, std::index_sequence<L...>) {
  return shuffle(v, v, std::index_sequence<(L ^ Distance)...>{});
}
template <std::size_t Distance = kLanes / 2, class Op>
SOFIE_INLINE inline float fold(f32v v, Op op) {
  if constexpr (Distance == 0) {
    return v[0];
  } else {
    return fold<Distance / 2>(op(v, swap_lanes<Distance>(v, AllLanes{})), op);
  }
}

// Four accumulators hide the latency of op; the order of the operations depends on n alone.
template <class N, class F, class Op>
SOFIE_INLINE inline float reduce(N n, F& f, float neutral, Op op) {
  constexpr std::size_t kStep = 4 * kLanes;
  const f32v start = broadcast(neutral);
  f32v a = start, b = start, c = start, d = start;
  std::size_t i = 0;
  for (; i + kStep <= n; i += kStep) {
    a = op(a, broadcast(f(Full{i})));
    b = op(b, broadcast(f(Full{i + kLanes})));
    c = op(c, broadcast(f(Full{i + 2 * kLanes})));
    d = op(d, broadcast(f(Full{i + 3 * kLanes})));
  }
  for (; i + kLanes <= n; i += kLanes) a = op(a, broadcast(f(Full{i})));
  if (!(is_fixed<N>::value && std::size_t(n) % kLanes == 0) && i < n) {
    const Partial j{i, n - i};
    b = op(b, select(valid_lanes(j), broadcast(f(j)), start));
  }
  return fold(op(op(a, b), op(c, d)), op);
}
}  // namespace detail

/// Sum of f(j) over n elements, f giving a vector or a float for Full and Partial indices; 0 for n == 0.
template <class N, class F>
SOFIE_INLINE inline float reduce_sum(N n, F&& f) {
  return detail::reduce(n, f, 0.f, [](auto a, auto b) SOFIE_INLINE { return a + b; });
}
/// Product over n elements; 1 for n == 0.
template <class N, class F>
SOFIE_INLINE inline float reduce_prod(N n, F&& f) {
  return detail::reduce(n, f, 1.f, [](auto a, auto b) SOFIE_INLINE { return a * b; });
}
/// Largest of n elements, NaN if any is; -inf for n == 0.
template <class N, class F>
SOFIE_INLINE inline float reduce_max(N n, F&& f) {
  return detail::reduce(n, f, -infinity<float>(), [](auto a, auto b) SOFIE_INLINE { return max(a, b); });
}
/// Smallest of n elements, NaN if any is; +inf for n == 0.
template <class N, class F>
SOFIE_INLINE inline float reduce_min(N n, F&& f) {
  return detail::reduce(n, f, infinity<float>(), [](auto a, auto b) SOFIE_INLINE { return min(a, b); });
}

}  // namespace SOFIE_ISA
}  // namespace sofie
