// Pooling against direct loops.
#include <cstdint>
#include <limits>
#include <sofie/cpu/pool.hxx>

#include "check.hpp"

template <std::size_t K0, std::size_t K1, std::size_t S, std::size_t D, std::size_t PB, std::size_t PE,
          bool Ceil, bool Pad, int Lp = 2>
struct Pool2 {
  static constexpr std::size_t rank = 2;
  static constexpr std::size_t kernel[2] = {K0, K1}, stride[2] = {1, S}, dilation[2] = {1, D},
                               pad_begin[2] = {PB, PE}, pad_end[2] = {PE, PB};
  static constexpr bool ceil = Ceil, count_include_pad = Pad;
  static constexpr int p = Lp, storage_order = Pad ? 1 : 0;
};

template <class P, class T>
void test(std::size_t h, std::size_t w) {
  const std::size_t in[2] = {h, w}, planes = 3;
  std::size_t out[2];
  for (int d = 0; d < 2; ++d) {
    const std::size_t room =
        in[d] + P::pad_begin[d] + P::pad_end[d] - P::dilation[d] * (P::kernel[d] - 1) - 1;
    out[d] = (room + (P::ceil ? P::stride[d] - 1 : 0)) / P::stride[d] + 1;
    if (P::ceil && (out[d] - 1) * P::stride[d] >= in[d] + P::pad_begin[d]) --out[d];  // as ONNX Runtime
  }
  const auto x = check::random<T>(planes * h * w, 50);
  const std::size_t n = planes * out[0] * out[1];
  std::vector<T> top(n), top2(n), mean(n), norm(n);
  std::vector<std::int64_t> where(n);
  sofie::max_pool<P>(planes, in, out, x.data(), top.data(), nullptr);
  sofie::max_pool<P>(planes, in, out, x.data(), top2.data(), where.data());
  if constexpr (std::is_floating_point<T>::value) {
    sofie::average_pool<P>(planes, in, out, x.data(), mean.data());
    sofie::lp_pool<P>(planes, in, out, x.data(), norm.data());
  }
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t plane = i / out[0] / out[1], o[2] = {i / out[1] % out[0], i % out[1]};
    double best = -std::numeric_limits<double>::infinity(), sum = 0, power = 0;
    std::size_t inside = 0, padded = 0;
    std::int64_t index = 0;
    for (std::size_t a = 0; a < P::kernel[0]; ++a)
      for (std::size_t b = 0; b < P::kernel[1]; ++b) {
        const long r = long(o[0] * P::stride[0] + a * P::dilation[0]) - long(P::pad_begin[0]);
        const long c = long(o[1] * P::stride[1] + b * P::dilation[1]) - long(P::pad_begin[1]);
        padded += r < long(h + P::pad_end[0]) && c < long(w + P::pad_end[1]);
        if (r < 0 || c < 0 || r >= long(h) || c >= long(w)) continue;
        ++inside;
        const double v = double(x[(plane * h + std::size_t(r)) * w + std::size_t(c)]);
        if (v > best)
          best = v,
          index = std::int64_t(plane * h * w) + (P::storage_order ? c * long(h) + r : r * long(w) + c);
        sum += v, power += std::pow(std::abs(v), P::p);
      }
    if (inside == 0) continue;
    if (double(top[i]) != best || double(top2[i]) != best)
      check::fail("max_pool [%zu] %g want %g", i, double(top[i]), best);
    if (where[i] != index) check::fail("max_pool index [%zu] %ld want %ld", i, long(where[i]), long(index));
    if constexpr (std::is_floating_point<T>::value) {
      if (!check::close(mean[i], sum / double(P::count_include_pad ? padded : inside), 1e-4))
        check::fail("average_pool");
      if (!check::close(norm[i], std::pow(power, 1. / P::p), 1e-5))
        check::fail("lp_pool %g want %g", double(norm[i]), std::pow(power, 1. / P::p));
    }
  }
}

template <class P>
void many() {
  for (int i = 0; i < 4; ++i) test<P, float>(5 + check::below(20), 5 + check::below(60));
  test<P, double>(9, 11);
  test<P, std::int8_t>(9, 21);
  test<P, std::uint8_t>(9, 21);
}

int main() {
  many<Pool2<2, 2, 2, 1, 0, 0, false, false>>();
  many<Pool2<2, 2, 2, 1, 0, 0, true, true>>();
  many<Pool2<3, 3, 2, 1, 1, 1, false, true, 1>>();
  many<Pool2<3, 3, 1, 1, 1, 1, true, false, 3>>();
  many<Pool2<3, 3, 3, 2, 1, 2, true, true>>();
  many<Pool2<1, 4, 2, 1, 0, 3, true, false>>();
  return check::done("pool_test");
}
