// integer_gemm against a triple loop: all signs, zero points, odd sizes, the largest sums.
#include <cstdint>
#include <sofie/core/integer.hxx>
#include <sofie/cpu/integer_gemm.hxx>

#include "check.hpp"

// Bytes of every value, the extreme ones often.
template <class T>
std::vector<T> bytes(std::size_t n) {
  std::vector<T> v(n);
  for (T& e : v) {
    const std::size_t kind = check::below(4);
    e = kind == 0   ? std::numeric_limits<T>::max()
        : kind == 1 ? std::numeric_limits<T>::min()
                    : static_cast<T>(check::below(256));
  }
  return v;
}

std::vector<std::int8_t> pack(const std::vector<std::int8_t>& b, std::size_t n, std::size_t k) {
  std::vector<std::int8_t> p;
  p.reserve(sofie::integer_packed_size(n, k) + 64);
  p.resize(sofie::integer_packed_size(n, k), 0);
  const std::size_t groups = (k + 3) / 4;
  for (std::size_t j = 0; j < n; ++j)
    for (std::size_t l = 0; l < k; ++l)
      p[((j / 16 * groups + l / 4) * 16 + j % 16) * 4 + l % 4] = b[l * n + j];
  return p;
}

template <class A, class M, class N, class K>
void test_gemm(M m, N n, K k, bool columns, bool rows) {
  const std::size_t lda = k + check::below(4), ldc = n + check::below(4);
  // Exactly what may be read, for the sanitizer.
  const auto a = bytes<A>(m == 0 ? 0 : (m - 1) * lda + k);
  const auto b = bytes<std::int8_t>(k * n);
  const auto p = pack(b, n, k);
  const auto za8 = bytes<A>(rows ? std::size_t(m) : 1);
  const auto zb8 = bytes<std::int8_t>(n);
  const std::vector<std::int32_t> za(za8.begin(), za8.end()), zb(zb8.begin(), zb8.end());
  std::vector<std::int32_t> sums(n), want(m * n);
  for (std::size_t j = 0; j < n; ++j) {
    const std::int32_t zero = columns ? zb[j] : 0;
    for (std::size_t l = 0; l < k; ++l) sums[j] += b[l * n + j] - zero;
    for (std::size_t i = 0; i < m; ++i) {
      std::uint32_t sum = 0;
      for (std::size_t l = 0; l < k; ++l)
        sum += static_cast<std::uint32_t>((a[i * lda + l] - za[rows ? i : 0]) * (b[l * n + j] - zero));
      want[i * n + j] = static_cast<std::int32_t>(sum);
    }
  }
  const std::int32_t* const zeros = columns ? zb.data() : nullptr;
  std::vector<std::int32_t> c(m * ldc, 77);
  sofie::integer_gemm(m, n, k, a.data(), lda, za.data(), std::size_t(rows), p.data(), sums.data(), zeros,
                      c.data(), ldc, [](auto acc, std::size_t, auto) SOFIE_INLINE { return acc; });
  std::vector<float> f(m * ldc, 77.f);
  sofie::integer_gemm(m, n, k, a.data(), lda, za.data(), std::size_t(rows), p.data(), sums.data(), zeros,
                      f.data(), ldc, [&](auto acc, std::size_t i, auto j) SOFIE_INLINE {
                        const auto sum = sofie::add(acc, sofie::load(sums.data(), j));
                        return sofie::cast<float>(sum) * static_cast<float>(i);
                      });
  for (std::size_t i = 0; i < m; ++i)
    for (std::size_t j = 0; j < ldc; ++j) {
      const std::int32_t exact = j < n ? want[i * n + j] : 77;
      if (c[i * ldc + j] != exact)
        check::fail("integer_gemm %zu %zu %zu [%zu][%zu]: %d, want %d", std::size_t(m), std::size_t(n),
                    std::size_t(k), i, j, c[i * ldc + j], exact);
      const float scaled =
          j < n ? static_cast<float>(sofie::add(exact, sums[j])) * static_cast<float>(i) : 77.f;
      if (f[i * ldc + j] != scaled) check::fail("integer_gemm with an epilogue");
    }
}

int main() {
  for (int i = 0; i < 300; ++i) {
    const std::size_t m = check::below(70), n = check::below(140), k = check::below(60);
    const bool columns = check::below(2), rows = check::below(2);
    test_gemm<std::uint8_t>(m, n, k, columns, rows);
    test_gemm<std::int8_t>(m, n, k, columns, rows);
    test_gemm<std::uint8_t>(std::size_t(1), n, k, columns, rows);
    test_gemm<std::int8_t>(sofie::fixed<1>{}, n, k, columns, rows);
  }
  test_gemm<std::uint8_t>(sofie::fixed<5>{}, sofie::fixed<50>{}, sofie::fixed<33>{}, true, false);
  test_gemm<std::int8_t>(sofie::fixed<15>{}, sofie::fixed<64>{}, sofie::fixed<3>{}, false, false);
  // Every product 255 * -128 or 255 * 127: the sums leave 16 bits at once, and 32 bits in the end.
  const std::size_t k = 70000;
  const std::vector<std::uint8_t> a(2 * k, 255);
  const std::vector<std::int32_t> zero(16, 0);
  for (std::int8_t value : {std::int8_t(-128), std::int8_t(127)}) {
    const std::vector<std::int8_t> p(sofie::integer_packed_size(16, k), value);
    std::vector<std::int32_t> c(2 * 16);
    for (std::size_t m : {1, 2})
      sofie::integer_gemm(m, std::size_t(16), k, a.data(), k, zero.data(), std::size_t(0), p.data(),
                          zero.data(), nullptr, c.data(), std::size_t(16),
                          [](auto acc, std::size_t, auto) SOFIE_INLINE { return acc; });
    const auto want = static_cast<std::int32_t>(static_cast<std::uint32_t>(k) * 255u *
                                                static_cast<std::uint32_t>(std::int32_t(value)));
    for (std::int32_t v : c)
      if (v != want) check::fail("extreme sum %d, want %d", v, want);
  }
  return check::done("integer_gemm_test");
}
