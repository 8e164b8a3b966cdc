// conv_channels_last, conv_depthwise and the pools with the channels last against direct loops in double.
#include <sofie/cpu/conv_channels_last.hxx>
#include <sofie/cpu/conv_depthwise.hxx>
#include <sofie/cpu/pool.hxx>

#include "check.hpp"

// What test P says of one image, with the output's extents known or not.
template <class P, bool Known>
struct Traits : P {
  static constexpr std::size_t extent(std::size_t d) {
    return Known ? sofie::conv_out(P::in[d], P::kernel[d], P::stride[d], P::dilation[d], P::pad_begin[d],
                                   P::pad_end[d])
                 : 0;
  }
  static constexpr std::size_t out[3] = {extent(0), extent(P::rank > 1 ? 1 : 0), extent(P::rank - 1)};
  static constexpr bool count_include_pad = false;
};

template <class P>
struct Sizes {
  std::size_t out[P::rank], in_plane = 1, out_plane = 1, taps = 1;
  Sizes() {
    for (std::size_t d = 0; d < P::rank; ++d) {
      out[d] = sofie::conv_out(P::in[d], P::kernel[d], P::stride[d], P::dilation[d], P::pad_begin[d],
                               P::pad_end[d]);
      in_plane *= P::in[d], out_plane *= out[d], taps *= P::kernel[d];
    }
  }
  // The input position that a tap of an output position reads, or in_plane where that is padding.
  std::size_t from(std::size_t p, std::size_t t) const {
    std::size_t at = 0, scale = 1;
    for (std::size_t d = P::rank; d-- > 0;) {
      const long i =
          long(p % out[d] * P::stride[d] + t % P::kernel[d] * P::dilation[d]) - long(P::pad_begin[d]);
      if (i < 0 || i >= long(P::in[d])) return in_plane;
      at += std::size_t(i) * scale;
      scale *= P::in[d], p /= out[d], t /= P::kernel[d];
    }
    return at;
  }
};

// Strides of x[N][spatial][C] or, channels first, of x[N][C][spatial]: batch, spatial dimensions, channel.
template <class P>
void strides_of(bool first, std::size_t (&strides)[P::rank + 2]) {
  std::size_t step = first ? 1 : P::C;
  for (std::size_t d = P::rank; d > 0; --d) strides[d] = step, step *= P::in[d - 1];
  strides[P::rank + 1] = first ? step : 1;
  strides[0] = first ? step * P::C : step;
}

template <class P, bool Known>
void test(bool first) {
  using T = Traits<P, Known>;
  constexpr std::size_t N = 2, C = P::C, O = P::O;
  const Sizes<P> s;
  const auto x = check::random<float>(N * C * s.in_plane, 5), w = check::random<float>(O * C * s.taps, 5),
             add = check::random<float>(N * O * s.out_plane, 5);
  std::vector<float> packed((O + 15) / 16 * 16 * C * s.taps, 0.f);
  for (std::size_t o = 0; o < O; ++o)
    for (std::size_t c = 0; c < C; ++c)
      for (std::size_t t = 0; t < s.taps; ++t)
        packed[((o / 16 * s.taps + t) * C + c) * 16 + o % 16] = w[(o * C + c) * s.taps + t];
  std::size_t strides[P::rank + 2];
  strides_of<P>(first, strides);
  std::vector<float> y(N * O * s.out_plane, 99), work(sofie::conv_channels_last_workspace<T>(P::in));
  const auto run = [&](std::size_t n, const float* from, float* to) {
    sofie::conv_channels_last<T>(n, P::in, from, strides, packed.data(), to, work.data(),
                                 [&](auto acc, std::size_t i, auto o)
                                     SOFIE_INLINE { return acc + sofie::load(&add[i * O], o); });
  };
  run(N, x.data(), y.data());
  std::vector<float> alone(O * s.out_plane);
  run(1, x.data(), alone.data());
  for (std::size_t i = 0; i < alone.size(); ++i)
    if (alone[i] != y[i]) check::fail("conv_channels_last: an image depends on the others");
  for (std::size_t i = 0; i < y.size(); ++i) {
    const std::size_t o = i % O, p = i / O % s.out_plane, n = i / O / s.out_plane;
    double sum = double(add[i]), size = 1;
    for (std::size_t t = 0; t < s.taps; ++t) {
      const std::size_t from = s.from(p, t);
      for (std::size_t c = 0; from < s.in_plane && c < C; ++c) {
        const std::size_t at = n * C * s.in_plane + (first ? c * s.in_plane + from : from * C + c);
        const double term = double(w[(o * C + c) * s.taps + t]) * double(x[at]);
        sum += term, size += std::abs(term);
      }
    }
    if (!check::close(double(y[i]), sum, 1e-6 * size))
      check::fail("conv_channels_last rank %zu C %zu O %zu [%zu]: %g, want %g", P::rank, C, O, i,
                  double(y[i]), sum);
  }
}

template <class P>
void test_depthwise() {
  constexpr std::size_t N = 2, C = P::C;
  const Sizes<P> s;
  const auto x = check::random<float>(N * C * s.in_plane, 5), w = check::random<float>(C * s.taps, 5),
             add = check::random<float>(N * C * s.out_plane, 5);
  std::vector<float> y(add.size(), 99);
  sofie::conv_depthwise<P>(N, P::in, x.data(), w.data(), y.data(),
                           [&](auto acc, std::size_t i, auto c)
                               SOFIE_INLINE { return acc + sofie::load(&add[i * C], c); });
  for (std::size_t i = 0; i < y.size(); ++i) {
    double sum = double(add[i]), size = 1;
    for (std::size_t t = 0; t < s.taps; ++t) {
      const std::size_t from = s.from(i / C % s.out_plane, t);
      if (from == s.in_plane) continue;
      const double term =
          double(w[t * C + i % C]) * double(x[(i / C / s.out_plane * s.in_plane + from) * C + i % C]);
      sum += term, size += std::abs(term);
    }
    if (!check::close(double(y[i]), sum, 1e-6 * size))
      check::fail("conv_depthwise rank %zu C %zu [%zu]: %g, want %g", P::rank, C, i, double(y[i]), sum);
  }
}

template <class P>
void test_pools() {
  using T = Traits<P, true>;
  const Sizes<P> s;
  const auto x = check::random<float>(P::C * s.in_plane, 5);
  std::vector<float> top(P::C * s.out_plane), mean(top.size());
  sofie::max_pool_channels_last<T>(1, P::C, P::in, s.out, x.data(), top.data());
  sofie::average_pool_channels_last<T>(1, P::C, P::in, s.out, x.data(), mean.data());
  for (std::size_t i = 0; i < top.size(); ++i) {
    float best = -std::numeric_limits<float>::infinity(), sum = 0;
    std::size_t n = 0;
    for (std::size_t t = 0; t < s.taps; ++t) {
      const std::size_t from = s.from(i / P::C, t);
      if (from == s.in_plane) continue;
      const float v = x[from * P::C + i % P::C];
      best = v > best ? v : best;
      sum += v, ++n;
    }
    if (n == 0) continue;
    if (top[i] != best) check::fail("max_pool_channels_last [%zu]: %g, want %g", i, top[i], best);
    if (!check::close(double(mean[i]), double(sum / float(n)), 1e-5))
      check::fail("average_pool_channels_last [%zu]: %g", i, mean[i]);
  }
}

template <std::size_t C_, std::size_t O_, std::size_t H, std::size_t W, std::size_t K, std::size_t S,
          std::size_t D, std::size_t PB, std::size_t PE>
struct Image {
  static constexpr std::size_t rank = 2, C = C_, O = O_, in[2] = {H, W}, kernel[2] = {2, K},
                               stride[2] = {S, S}, dilation[2] = {1, D}, pad_begin[2] = {PB, PE},
                               pad_end[2] = {PE, PB};
};
template <std::size_t C_, std::size_t O_, std::size_t L, std::size_t K, std::size_t S, std::size_t P>
struct Line {
  static constexpr std::size_t rank = 1, C = C_, O = O_, in[1] = {L}, kernel[1] = {K}, stride[1] = {S},
                               dilation[1] = {2}, pad_begin[1] = {P}, pad_end[1] = {0};
};
template <std::size_t C_, std::size_t O_>
struct Volume {
  static constexpr std::size_t rank = 3, C = C_, O = O_, in[3] = {3, 5, 6}, kernel[3] = {2, 3, 2},
                               stride[3] = {1, 2, 1}, dilation[3] = {2, 1, 1}, pad_begin[3] = {1, 0, 1},
                               pad_end[3] = {0, 2, 1};
};

template <class P>
void all() {
  test<P, true>(false);
  test<P, false>(false);
  if (sofie::detail::conv_pads<P>()) {
    test<P, true>(true);
    test<P, false>(true);
  }
  test_depthwise<P>();
  test_pools<P>();
}

int main() {
  all<Image<3, 16, 9, 31, 3, 2, 1, 1, 1>>();
  all<Image<1, 33, 7, 7, 3, 1, 1, 0, 1>>();
  all<Image<5, 48, 2, 3, 2, 1, 1, 0, 0>>();
  all<Image<16, 4, 8, 14, 3, 1, 2, 2, 0>>();
  all<Image<4, 40, 11, 15, 1, 2, 1, 0, 0>>();
  all<Image<35, 5, 6, 13, 3, 1, 1, 1, 1>>();
  all<Image<7, 20, 4, 29, 3, 1, 3, 0, 4>>();
  all<Line<3, 17, 40, 3, 1, 2>>();
  all<Line<6, 32, 9, 4, 2, 0>>();
  all<Volume<2, 31>>();
  all<Volume<5, 8>>();
  return check::done("conv_channels_last_test");
}
