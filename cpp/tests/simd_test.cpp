// Loads, stores, loops, reductions and the helpers on masks and scalars.
#include <cstdint>
#include <limits>
#include <sofie/core/integer.hxx>
#include <sofie/cpu/math.hxx>

#include "check.hpp"

using namespace sofie;

namespace {
const float kNan = std::numeric_limits<float>::quiet_NaN(),
            kInfinity = std::numeric_limits<float>::infinity();

void expect(bool ok, const char* what, std::size_t n = 0) {
  if (!ok) check::fail("%s (n = %zu)", what, n);
}
bool same_value(float a, float b) { return a == b || (a != a && b != b); }

template <class N>
void loops(N n) {
  const auto x = check::random<float>(n + 1, 3);
  std::vector<float> y(n + 1, 7.f), z(n + 1);
  std::vector<char> mask(n + 1, 9);
  std::vector<char> flags(n + 1, 0);
  map(n, [&](auto j) SOFIE_INLINE {
    store(y.data(), j, fma(load(x.data(), j), 2.f, iota(j)));
    bool* const negative = reinterpret_cast<bool*>(mask.data());
    store(negative, j, load(x.data(), j) < 0.f);
    store(reinterpret_cast<bool*>(flags.data()), j, logical_not(load(negative, j)));
  });
  for (std::size_t i = 0; i < n; ++i) {
    expect(y[i] == fma(x[i], 2.f, float(i)), "map", n);
    expect(mask[i] == (x[i] < 0.f) && flags[i] == !(x[i] < 0.f), "mask store", n);
  }
  expect(y[n] == 7.f && mask[n] == 9 && flags[n] == 0, "map wrote beyond the end", n);
  // Reversed copy by a negative stride, and a predicate by lanes.
  map(n, [&](auto j) SOFIE_INLINE {
    const auto back = gather(x.data() + (n == 0 ? 0 : n - 1), static_cast<std::size_t>(-1), j);
    const auto even = lanes(j, [](std::size_t i) { return i % 2 == 0; });
    store(z.data(), j, select(even, back, 0.f));
  });
  for (std::size_t i = 0; i < n; ++i) expect(z[i] == (i % 2 == 0 ? x[n - 1 - i] : 0.f), "gather, lanes", n);
  map(n, [&](auto j) SOFIE_INLINE { store(z.data(), j, 4.f); });
  for (std::size_t i = 0; i < n; ++i) expect(z[i] == 4.f, "broadcast store", n);
  double sum = 0, product = 1;
  float top = -kInfinity, bottom = kInfinity;
  for (std::size_t i = 0; i < n; ++i) {
    sum += double(x[i]), product *= double(x[i]);
    top = std::max(top, x[i]), bottom = std::min(bottom, x[i]);
  }
  const auto get = [&](auto j) SOFIE_INLINE { return load(x.data(), j); };
  expect(check::close(reduce_sum(n, get), sum, 1e-5), "reduce_sum", n);
  expect(check::close(reduce_prod(n, get), product, 1e-5), "reduce_prod", n);
  expect(reduce_max(n, get) == top && reduce_min(n, get) == bottom, "reduce_max, reduce_min", n);
  expect(reduce_sum(n, [](auto) SOFIE_INLINE { return 1.f; }) == float(std::size_t(n)),
         "reduce_sum of a scalar", n);
  // Garbage in the lanes beyond the end must not matter: 1 / 0 there.
  expect(reduce_sum(n, [&](auto j) SOFIE_INLINE { return abs(load(x.data(), j)) / load(x.data(), j); }) ==
             reduce_sum(n, [&](auto j) SOFIE_INLINE { return sign(load(x.data(), j)); }),
         "reduce_sum with garbage lanes", n);
  if (n > 0) {
    auto with_nan = x;
    with_nan[check::below(n)] = kNan;
    const auto f = [&](auto j) SOFIE_INLINE { return load(with_nan.data(), j); };
    expect(std::isnan(reduce_max(n, f)) && std::isnan(reduce_min(n, f)), "reduce_max of NaN", n);
  }
}

// Vectors of integers against the same calls on scalars; nothing beyond the end is read or written.
template <class T>
void integer_vectors(std::size_t n) {
  const auto x = check::random<float>(n, 300);
  const auto a = check::random<T>(n, 127), b = check::random<T>(n, 127);
  std::vector<T> y(n + 1, T(77)), sums(n), products(n);
  std::vector<std::int32_t> wide(n);
  std::vector<std::uint8_t> bytes(n);
  std::vector<float> floats(n);
  // Exactly n elements behind each pointer that is read, so that the sanitizer sees more.
  const std::vector<T> exact(a.begin(), a.end());
  map(n, [&](auto j) SOFIE_INLINE {
    const auto v = load(exact.data(), j), w = load(b.data(), j);
    store(y.data(), j, cast<T>(round(load(x.data(), j))));
    store(sums.data(), j, sub(add(add(v, w), T(100)), T(3)));
    store(products.data(), j, mul(mul(v, w), T(5)));
    store(wide.data(), j, sub(7, mul(cast<std::int32_t>(v), cast<std::int32_t>(w))));
    store(bytes.data(), j, cast<std::uint8_t>(v));
    store(floats.data(), j, cast<float>(sub(T(1), v)));
  });
  for (std::size_t i = 0; i < n; ++i) {
    expect(y[i] == cast<T>(std::nearbyint(x[i])), "float to integer", n);
    expect(sums[i] == sub(add(add(a[i], b[i]), T(100)), T(3)), "sums of integers", n);
    expect(products[i] == mul(mul(a[i], b[i]), T(5)), "products of integers", n);
    expect(wide[i] == sub(7, mul(std::int32_t(a[i]), std::int32_t(b[i]))), "widened integers", n);
    expect(bytes[i] == static_cast<std::uint8_t>(a[i]), "narrowed integers", n);
    expect(floats[i] == static_cast<float>(sub(T(1), a[i])), "integer to float", n);
  }
  expect(y[n] == T(77), "map wrote integers beyond the end", n);
  map(n, [&](auto j) SOFIE_INLINE { store(y.data(), j, T(5)); });
  for (std::size_t i = 0; i < n; ++i) expect(y[i] == T(5), "broadcast store of an integer", n);
  expect(y[n] == T(77), "map wrote an integer beyond the end", n);
}

template <class T>
void saturation() {
  for (float v : {0.f, -0.9f, 0.9f, 254.5f, 255.f, 256.f, -128.f, -129.f, 32768.f, 65536.f, 2147483520.f,
                  2147483648.f, -2147483648.f, 1e30f, -1e30f, kInfinity, -kInfinity, kNan})
    expect(cast<T>(broadcast(v)).lanes[kLanes - 1] == cast<T>(v), "vector cast to integer");
}

template <class T>
void integers() {
  using L = std::numeric_limits<T>;
  for (float v : {0.f, -0.9f, 0.9f, 1.5f, 100.f, 1e30f, -1e30f, kInfinity, -kInfinity}) {
    const double t = std::trunc(double(v));
    const T want = t <= double(L::min()) ? L::min() : t >= double(L::max()) ? L::max() : static_cast<T>(t);
    expect(cast<T>(v) == want && cast<T>(double(v)) == want, "cast to integer");
  }
  expect(cast<T>(kNan) == T(0), "cast of NaN");
  expect(cast<bool>(T(2)) && !cast<bool>(T(0)) && cast<bool>(0.5f), "cast to bool");
  expect(pow(T(3), T(4)) == T(81) && pow(T(2), T(0)) == T(1) && pow(T(0), T(0)) == T(1), "integer pow");
  expect(mod(T(7), T(3)) == T(1) && fmod(T(7), T(3)) == T(1), "mod");
  if (std::is_signed<T>::value) {
    const T minus7 = static_cast<T>(-7), minus3 = static_cast<T>(-3);
    expect(mod(minus7, T(3)) == T(2) && mod(T(7), minus3) == static_cast<T>(-2), "python mod");
    expect(fmod(minus7, T(3)) == static_cast<T>(-1) && fmod(T(7), minus3) == T(1), "C mod");
    expect(fmod(L::min(), static_cast<T>(-1)) == T(0), "mod overflow");
    expect(abs(minus7) == T(7) && sign(minus7) == static_cast<T>(-1) && neg(minus7) == T(7),
           "abs, sign, neg");
    expect(pow(minus3, T(3)) == static_cast<T>(-27) && pow(T(2), static_cast<T>(-1)) == T(0), "integer pow");
  }
}
}  // namespace

int main() {
  for (std::size_t n = 0; n < 200; ++n) loops(n);
  loops(fixed<0>{}), loops(fixed<3>{}), loops(fixed<16>{}), loops(fixed<50>{}), loops(fixed<77>{}),
      loops(fixed<128>{});
  integers<std::int8_t>(), integers<std::uint8_t>(), integers<std::int16_t>(), integers<std::int32_t>();
  integers<std::int64_t>(), integers<std::uint32_t>(), integers<std::uint64_t>();
  for (std::size_t n = 0; n < 40; ++n) {
    integer_vectors<std::int8_t>(n), integer_vectors<std::uint8_t>(n), integer_vectors<std::int16_t>(n);
    integer_vectors<std::uint16_t>(n), integer_vectors<std::int32_t>(n);
  }
  saturation<std::int8_t>(), saturation<std::uint8_t>(), saturation<std::int16_t>();
  saturation<std::uint16_t>(), saturation<std::int32_t>();
  // max and min: every mixture of vector and scalar, NaN wins.
  for (float a : {-1.f, 0.f, 2.f, kNan, kInfinity})
    for (float b : {-2.f, 0.f, 1.f, kNan, -kInfinity}) {
      const float top = std::isnan(a) || std::isnan(b) ? kNan : std::max(a, b);
      const float bottom = std::isnan(a) || std::isnan(b) ? kNan : std::min(a, b);
      const f32v va = broadcast(a), vb = broadcast(b);
      expect(same_value(max(a, b), top) && same_value(max(va, vb)[0], top) &&
                 same_value(max(va, b)[1], top) && same_value(max(a, vb)[2], top),
             "max");
      expect(same_value(min(a, b), bottom) && same_value(min(va, vb)[0], bottom) &&
                 same_value(min(va, b)[1], bottom) && same_value(min(a, vb)[2], bottom),
             "min");
      expect(same_value(std::fmod(a, b), fmod(va, b)[0]), "fmod");
    }
  expect(max(3, 4L) == 4 && min(std::uint8_t(3), std::uint8_t(4)) == 3, "max of integers");
  expect(mod(broadcast(-7.f), 3.f)[0] == 2.f && mod(-7.f, 3.f) == 2.f && mod(7.f, -3.f) == -2.f,
         "mod of floats");
  const i32v yes = broadcast_mask(true), no = broadcast_mask(false);
  expect(cast<float>(yes)[0] == 1.f && cast<float>(no)[0] == 0.f && cast<bool>(broadcast(2.f))[0] == -1,
         "casts of masks");
  expect(logical_and(yes, no)[0] == 0 && logical_or(yes, false)[0] == -1 && logical_xor(yes, true)[0] == 0 &&
             logical_xor(true, false),
         "logic");
  expect(select(no, 1.f, 2.f)[0] == 2.f && select(true, broadcast(1.f), 2.f)[1] == 1.f &&
             select(yes, no, true)[0] == 0,
         "select");
  expect(isnan(broadcast(kNan))[0] == -1 && isinf(broadcast(-kInfinity))[0] == -1 && !isnan(1.f) &&
             isinf(kInfinity),
         "isnan, isinf");
  expect(pow(broadcast(2.f), 3.f)[0] == 8.f && pow(2.f, 0.5f) == std::sqrt(2.f) && pow(4., 0.5) == 2., "pow");
  return check::done("simd_test");
}
