// gemm and matmul against triple loops, over random shapes; rows must not depend on the number of rows.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <sofie/cpu/gemm.hxx>
#include <sofie/cpu/matmul.hxx>

#include "check.hpp"

template <class T>
std::vector<T> pack(const std::vector<T>& b, std::size_t n, std::size_t k) {
  std::vector<T> p(sofie::packed_size(n, k), T(0));
  for (std::size_t j = 0; j < n; ++j)
    for (std::size_t l = 0; l < k; ++l) p[j / 16 * 16 * k + l * 16 + j % 16] = b[l * n + j];
  return p;
}

// The contract's order of operations, one element at a time.
template <class T>
T dot(const T* a, std::size_t sa, const T* b, std::size_t sb, std::size_t k) {
  T s = 0;
  for (std::size_t l = 0; l < k; ++l) s = sofie::fma(a[l * sa], b[l * sb], s);
  return s;
}

// `finish` is the epilogue, whose value for column j is `last(sum, j)`.
template <class T, class M, class N, class K, class E, class L>
void test_gemm(M m, N n, K k, const std::vector<T>& a, std::size_t lda, const std::vector<T>& b, E finish,
               L last) {
  const std::size_t ldc = n + check::below(4);
  const auto p = pack(b, n, k);
  std::vector<T> c(m * ldc, T(77)), one(n);
  sofie::gemm(m, n, k, a.data(), lda, p.data(), c.data(), ldc, finish);
  for (std::size_t i = 0; i < m; ++i) {
    for (std::size_t j = 0; j < ldc; ++j) {
      const T want = j < n ? last(dot<T>(a.data() + i * lda, 1, b.data() + j, n, k), j) : T(77);
      if (c[i * ldc + j] != want)
        check::fail("gemm %zu %zu %zu [%zu][%zu]: %g, want %g", std::size_t(m), std::size_t(n),
                    std::size_t(k), i, j, double(c[i * ldc + j]), double(want));
    }
    sofie::gemm(sofie::fixed<1>{}, n, k, a.data() + i * lda, lda, p.data(), one.data(), n, finish);
    if (n != 0 && std::memcmp(one.data(), &c[i * ldc], n * sizeof(T)) != 0)
      check::fail("gemm: row depends on m");
  }
}

template <class T, class M, class N, class K>
void test_gemm(M m, N n, K k) {
  const std::size_t lda = k + check::below(4);
  const auto a = check::random<T>(m * lda, 10), b = check::random<T>(k * n, 10),
             bias = check::random<T>(n, 10);
  const T* of = bias.data();
  const auto sum = [](T s, std::size_t) { return s; };
  const auto with_bias = [=](T s, std::size_t j) { return static_cast<T>(s + of[j]); };
  const auto relu = [=](T s, std::size_t j) { return static_cast<T>(sofie::max(s + of[j], T(0))); };
  const auto twice = [](auto acc, std::size_t, auto) SOFIE_INLINE { return acc + acc; };
  test_gemm(m, n, k, a, lda, b, sofie::Identity{}, sum);
  test_gemm(m, n, k, a, lda, b, sofie::Bias<T>{of}, with_bias);
  test_gemm(m, n, k, a, lda, b, sofie::BiasRelu<T>{of}, relu);
  test_gemm(m, n, k, a, lda, b, twice, [](T s, std::size_t) { return static_cast<T>(s + s); });
}

// Widths that are known when compiling, with every kind of rest.
template <std::size_t... N>
void test_widths(std::index_sequence<N...>) {
  const auto test = [](auto n) {
    const std::size_t m = check::below(70), k = 1 + check::below(70);
    const auto a = check::random<float>(m * k, 10), b = check::random<float>(k * n, 10);
    const auto bias = check::random<float>(n, 10);
    test_gemm(m, n, k, a, k, b, sofie::Bias<float>{bias.data()},
              [&](float s, std::size_t j) { return s + bias[j]; });
  };
  (test(sofie::fixed<N>{}), ...);
}

// What is not a number must get through, and sums that are 0 keep their sign.
void test_special() {
  const float nan = NAN, inf = INFINITY;
  const std::vector<float> a(32, 1.f), bias(3, 0.f);
  const auto p = pack(std::vector<float>{nan, inf, -inf}, 3, 1);
  std::vector<float> c(32 * 3);
  for (std::size_t m : {1, 32}) {
    sofie::gemm(m, sofie::fixed<3>{}, sofie::fixed<1>{}, a.data(), 1, p.data(), c.data(), 3,
                sofie::BiasRelu<float>{bias.data()});
    if (!(c[0] != c[0]) || c[1] != inf || c[2] != 0) check::fail("BiasRelu of %g %g %g", c[0], c[1], c[2]);
    sofie::gemm(m, sofie::fixed<3>{}, sofie::fixed<1>{}, a.data(), 1, p.data(), c.data(), 3,
                sofie::Identity{});
    if (!(c[0] != c[0]) || c[1] != inf || c[2] != -inf) check::fail("Identity of %g %g %g", c[0], c[1], c[2]);
  }
}

template <class T, class N, class E, class L>
void test_matmul(N n, E finish, L last) {
  const std::size_t b0 = 1 + check::below(3), b1 = 1 + check::below(3), m = 1 + check::below(70),
                    k = check::below(40);
  const bool ta = check::below(2), tb = check::below(2);
  const std::size_t a_s1 = check::below(2) ? m * k : 0, a_s0 = check::below(2) ? a_s1 * b1 : 0;
  const std::size_t b_s1 = check::below(2) ? n * k : 0, b_s0 = check::below(2) ? b_s1 * b1 : 0;
  const std::size_t a_sm = ta ? 1 : k, a_sk = ta ? m : 1, b_sk = tb ? 1 : n, b_sn = tb ? k : 1;
  const auto a = check::random<T>(b0 * b1 * m * k + 1, 10), b = check::random<T>(b0 * b1 * n * k + 1, 10);
  std::vector<T> c(b0 * b1 * m * n), work(sofie::matmul_workspace(n, k) + 1);
  sofie::matmul(b0, b1, m, n, k, a.data(), a_s0, a_s1, a_sm, a_sk, b.data(), b_s0, b_s1, b_sk, b_sn, c.data(),
                work.data(), finish);
  for (std::size_t i0 = 0; i0 < b0; ++i0)
    for (std::size_t i1 = 0; i1 < b1; ++i1)
      for (std::size_t i = 0; i < m; ++i)
        for (std::size_t j = 0; j < n; ++j) {
          const std::size_t batch = i0 * b1 + i1;
          const T want = last(dot<T>(a.data() + (i0 * a_s0 + i1 * a_s1 + i * a_sm), a_sk,
                                     b.data() + (i0 * b_s0 + i1 * b_s1 + j * b_sn), b_sk, k),
                              batch, i);
          const T got = c[(batch * m + i) * n + j];
          if (got != want)
            check::fail("matmul %zu %zu %zu: %g, want %g", m, std::size_t(n), k, double(got), double(want));
        }
}

template <class T, class N>
void test_matmul(N n) {
  const auto place = [](std::size_t batch, std::size_t i) { return static_cast<T>(100 * batch + i); };
  test_matmul<T>(
      n, [=](auto acc, std::size_t batch, std::size_t i, auto) SOFIE_INLINE { return acc + place(batch, i); },
      [=](T sum, std::size_t batch, std::size_t i) { return static_cast<T>(sum + place(batch, i)); });
  test_matmul<T>(n, sofie::Identity{}, [](T sum, std::size_t, std::size_t) { return sum; });
}

int main() {
  for (int i = 0; i < 300; ++i) {
    test_gemm<float>(check::below(70), check::below(140), check::below(60));
    test_matmul<float>(1 + check::below(70));
    test_matmul<float>(sofie::fixed<20>{});
  }
  for (int i = 0; i < 5; ++i)
    test_widths(std::index_sequence<1, 3, 4, 5, 8, 9, 13, 16, 17, 20, 23, 24, 25, 32, 35, 40, 48, 50, 55, 64,
                                    67, 85>{});
  test_special();
  test_gemm<float>(std::size_t(30), std::size_t(37), std::size_t(2500));
  test_gemm<float>(std::size_t(61), sofie::fixed<55>{}, std::size_t(1027));
  test_gemm<float>(std::size_t(1), std::size_t(300), std::size_t(7));
  test_gemm<float>(std::size_t(300), sofie::fixed<50>{}, sofie::fixed<50>{});
  test_gemm<float>(sofie::fixed<1>{}, sofie::fixed<200>{}, sofie::fixed<20>{});
  test_gemm<float>(sofie::fixed<5>{}, sofie::fixed<1>{}, sofie::fixed<1>{});
  test_gemm<float>(sofie::fixed<15>{}, sofie::fixed<64>{}, sofie::fixed<3>{});
  for (int i = 0; i < 20; ++i) {
    test_gemm<double>(check::below(9), check::below(40), check::below(20));
    test_gemm<std::int64_t>(check::below(9), check::below(40), check::below(20));
    test_gemm<std::int8_t>(check::below(9), check::below(40), check::below(20));
    test_matmul<double>(1 + check::below(20));
    test_matmul<std::int32_t>(1 + check::below(20));
  }
  return check::done("gemm_test");
}
