// winograd against direct loops in double.
#include <sofie/cpu/winograd.hxx>

#include "check.hpp"

// The rows of G for n = r + m - 1: powers of the points over the products of their differences.
std::vector<double> weight_transform(std::size_t n, std::size_t r) {
  if (n == 1) return {1.};
  const double points[4][3] = {{}, {1.}, {.625, 1.5}, {.5, 1., 2.}};
  std::vector<double> p = {0.}, g(n * r, 0.);
  for (std::size_t j = 0; j < n / 2 - 1; ++j) {
    p.push_back(points[n / 2 - 1][j]);
    p.push_back(-p.back());
  }
  for (std::size_t i = 0; i < n - 1; ++i) {
    double value = 1.;
    for (std::size_t j = 0; j < n - 1; ++j)
      if (j != i) value /= p[i] - p[j];
    for (std::size_t k = 0; k < r; ++k, value *= p[i]) g[i * r + k] = value;
  }
  g[n * r - 1] = 1.;
  return g;
}

template <std::size_t C_, std::size_t O_, std::size_t K0, std::size_t K1, std::size_t M0, std::size_t M1,
          std::size_t B, std::size_t E, bool T = true>
struct Conv2 {
  static constexpr bool transformed = T;
  static constexpr std::size_t rank = 2, C = C_, O = O_, block = 28;
  static constexpr std::size_t kernel[2] = {K0, K1}, tile[2] = {M0, M1}, pad_begin[2] = {B, E},
                               pad_end[2] = {E, B};
};
template <std::size_t C_, std::size_t O_, std::size_t K, std::size_t M, std::size_t B, std::size_t E>
struct Conv1 {
  static constexpr bool transformed = true;
  static constexpr std::size_t rank = 1, C = C_, O = O_, block = 14;
  static constexpr std::size_t kernel[1] = {K}, tile[1] = {M}, pad_begin[1] = {B}, pad_end[1] = {E};
};

double worst = 0.;

// A copy in memory of exactly its size, so that the sanitizer sees reads beyond it.
std::vector<float> exact(const std::vector<float>& v) { return {v.begin(), v.end()}; }

template <class P>
void test(std::size_t N, const std::size_t (&in)[P::rank]) {
  using L = sofie::detail::WinogradLayer<P>;
  using S = typename L::Tile;
  constexpr std::size_t last = P::rank - 1;
  const std::size_t h = P::rank == 1 ? 1 : in[0], wide = in[last];
  const std::size_t oh = h + L::more0 - L::k0 + 1, ow = wide + L::more1 - L::k1 + 1;
  const auto x = check::random<float>(N * h * wide * P::C),
             w = check::random<float>(P::O * P::C * L::k0 * L::k1),
             add = check::random<float>(N * oh * ow * P::O);
  const auto g0 = weight_transform(S::n0, L::k0), g1 = weight_transform(S::n1, L::k1);
  const std::size_t blocks = (P::O + 31) / 32, tail = P::O % 32 != 0 && P::O % 32 <= 16 ? 16 : 32;
  const std::size_t taps = L::k0 * L::k1, values = P::transformed ? S::positions : taps;
  std::vector<float> u(values * P::C * ((blocks - 1) * 32 + tail));
  for (std::size_t o = 0; o < P::O; ++o)
    for (std::size_t c = 0; c < P::C; ++c) {
      const std::size_t block = o / 32, width = block + 1 == blocks ? tail : 32;
      float* to = &u[block * 32 * values * P::C] + o % 32;
      const float* from = &w[(o * P::C + c) * taps];
      if (!P::transformed)
        for (std::size_t t = 0; t < taps; ++t) to[(c * taps + t) * width] = from[t];
      for (std::size_t p = 0; P::transformed && p < S::positions; ++p) {
        const std::size_t i = p / S::n1, j = p % S::n1;
        double sum = 0;
        for (std::size_t a = 0; a < L::k0; ++a)
          for (std::size_t b = 0; b < L::k1; ++b)
            sum += g0[i * L::k0 + a] * g1[j * L::k1 + b] * double(from[a * L::k1 + b]);
        to[(p * P::C + c) * width] = float(sum);
      }
    }
  const std::size_t tiles = N * ((oh + S::m0 - 1) / S::m0) * ((ow + S::m1 - 1) / S::m1);
  std::vector<float> y(N * oh * ow * P::O, 99.f), work(sofie::winograd_workspace<P>(tiles));
  sofie::winograd<P>(N, in, x.data(), u.data(), y.data(), work.data(),
                     [&](auto acc, std::size_t p, auto o)
                         SOFIE_INLINE { return acc + sofie::load(&add[p * P::O], o); });
  double largest = 0, error = 0;
  for (std::size_t n = 0; n < N; ++n)
    for (std::size_t i = 0; i < oh; ++i)
      for (std::size_t j = 0; j < ow; ++j)
        for (std::size_t o = 0; o < P::O; ++o) {
          double sum = 0;
          for (std::size_t a = 0; a < L::k0; ++a)
            for (std::size_t b = 0; b < L::k1; ++b) {
              const std::size_t r = i + a - L::pad0, s = j + b - L::pad1;  // wraps in the padding
              if (r >= h || s >= wide) continue;
              for (std::size_t c = 0; c < P::C; ++c)
                sum += double(x[((n * h + r) * wide + s) * P::C + c]) *
                       double(w[((o * P::C + c) * L::k0 + a) * L::k1 + b]);
            }
          const std::size_t at = ((n * oh + i) * ow + j) * P::O + o;
          sum += double(add[at]);
          largest = std::max(largest, std::abs(sum));
          error = std::max(error, std::abs(double(y[at]) - sum));
          if (!(error <= 2e-5 * std::sqrt(double(P::C * L::k0 * L::k1)))) {  // a NaN fails
            check::fail("winograd O %zu C %zu k %zu x %zu tile %zu x %zu [%zu][%zu][%zu][%zu]: %g, want %g",
                        P::O, P::C, L::k0, L::k1, S::m0, S::m1, n, i, j, o, double(y[at]), sum);
            error = 0;
          }
        }
  worst = std::max(worst, error / largest);
}

template <class P>
void many() {
  worst = 0;
  test<P>(1, {6, 7});
  test<P>(2, {P::kernel[0], P::kernel[1]});
  test<P>(3, {8 + check::below(30), 8 + check::below(40)});
  test<P>(1, {40, 5 + check::below(60)});
  std::printf("%zu x %zu, tile %zu x %zu, %zu -> %zu: error %.1e\n", P::kernel[0], P::kernel[1], P::tile[0],
              P::tile[1], P::C, P::O, worst);
}

int main() {
  many<Conv2<16, 32, 3, 3, 2, 2, 1, 1>>();
  many<Conv2<64, 32, 3, 3, 4, 4, 1, 1>>();
  many<Conv2<16, 32, 5, 5, 2, 2, 2, 2>>();
  many<Conv2<32, 64, 5, 5, 4, 4, 2, 2>>();
  many<Conv2<7, 5, 3, 3, 4, 4, 0, 2>>();
  many<Conv2<19, 70, 3, 3, 2, 2, 1, 0>>();
  many<Conv2<33, 49, 5, 5, 4, 4, 0, 0>>();
  many<Conv2<1, 17, 5, 5, 2, 2, 4, 1>>();
  many<Conv2<9, 16, 3, 5, 4, 2, 1, 2>>();
  many<Conv2<9, 16, 1, 3, 1, 4, 0, 0>>();
  many<Conv2<40, 17, 3, 3, 2, 2, 1, 1, false>>();
  many<Conv2<150, 33, 3, 3, 4, 4, 1, 1, false>>();
  many<Conv2<70, 32, 5, 5, 4, 4, 2, 2, false>>();
  many<Conv2<3, 16, 3, 5, 2, 2, 1, 2, false>>();
  test<Conv1<16, 20, 3, 2, 1, 1>>(3, {37});
  test<Conv1<16, 40, 3, 4, 1, 0>>(2, {3});
  test<Conv1<5, 33, 5, 2, 2, 2>>(2, {100});
  test<Conv1<18, 33, 5, 4, 0, 5>>(1, {400});
  test<Conv2<4, 4, 3, 3, 4, 4, 1, 1>>(0, {9, 9});
  return check::done("winograd_test");
}
