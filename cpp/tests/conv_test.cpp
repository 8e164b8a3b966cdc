// conv and conv_transpose against direct loops in double.
#include <cstdint>
#include <sofie/cpu/conv.hxx>
#include <sofie/cpu/conv_transpose.hxx>

#include "check.hpp"

// W[O][Cg][taps] to blocks of kConvBlock output channels, per group.
template <class T>
std::vector<T> pack(const std::vector<T>& w, std::size_t groups, std::size_t O, std::size_t Cg,
                    std::size_t taps) {
  const std::size_t Og = O / groups, blocks = (Og + 7) / 8;
  std::vector<T> p(groups * blocks * Cg * taps * 8, T(0));
  for (std::size_t o = 0; o < O; ++o)
    for (std::size_t i = 0; i < Cg * taps; ++i)
      p[((o / Og * blocks + o % Og / 8) * Cg * taps + i) * 8 + o % Og % 8] = w[o * Cg * taps + i];
  return p;
}

template <class P, class T>
void test(const std::size_t (&in)[P::rank]) {
  std::size_t out[P::rank], in_plane = 1, out_plane = 1, taps = 1;
  for (std::size_t d = 0; d < P::rank; ++d) {
    out[d] =
        sofie::conv_out(in[d], P::kernel[d], P::stride[d], P::dilation[d], P::pad_begin[d], P::pad_end[d]);
    in_plane *= in[d], out_plane *= out[d], taps *= P::kernel[d];
  }
  const std::size_t N = 2, C = P::C / P::groups, O = P::O / P::groups;
  const auto x = check::random<T>(N * P::C * in_plane, 5), w = check::random<T>(P::O * C * taps, 5),
             add = check::random<T>(N * P::O * out_plane, 5);
  const auto packed = pack(w, P::groups, P::O, C, taps);
  std::vector<T> y(N * P::O * out_plane, T(99)), work(sofie::conv_workspace<P>(in));
  sofie::conv<P>(N, in, x.data(), packed.data(), y.data(), work.data(),
                 [&](auto acc, std::size_t n, std::size_t o, auto p)
                     SOFIE_INLINE { return acc + sofie::load(&add[(n * P::O + o) * out_plane], p); });
  for (std::size_t no = 0; no < N * P::O; ++no)
    for (std::size_t p = 0; p < out_plane; ++p) {
      const std::size_t n = no / P::O, o = no % P::O;
      double sum = 0, size = 1;
      for (std::size_t c = 0; c < C; ++c)
        for (std::size_t t = 0; t < taps; ++t) {
          std::size_t pp = p, tt = t, from = 0, scale = 1;
          bool inside = true;
          for (std::size_t d = P::rank; d-- > 0;) {
            const long i =
                long(pp % out[d] * P::stride[d] + tt % P::kernel[d] * P::dilation[d]) - long(P::pad_begin[d]);
            inside = inside && i >= 0 && i < long(in[d]);
            from += std::size_t(i) * scale;
            scale *= in[d], pp /= out[d], tt /= P::kernel[d];
          }
          if (inside) {
            const double term =
                double(w[(o * C + c) * taps + t]) * double(x[(n * P::C + o / O * C + c) * in_plane + from]);
            sum += term, size += std::abs(term);
          }
        }
      const double want = double(static_cast<T>(sum + double(add[no * out_plane + p])));
      if (!check::close(double(y[no * out_plane + p]), want, 1e-6 * size))
        check::fail("conv rank %zu O %zu C %zu g %zu k %zu [%zu][%zu]: %g, want %g", P::rank, P::O, P::C,
                    P::groups, taps, no, p, double(y[no * out_plane + p]), want);
    }
}

// Here w is W[C][O/g][taps], as ONNX has it.
template <class P, class T>
void test_transpose(const std::size_t (&in)[P::rank]) {
  std::size_t out[P::rank], in_plane = 1, out_plane = 1, taps = 1;
  for (std::size_t d = 0; d < P::rank; ++d) {
    const std::size_t extra = check::below(P::stride[d]);  // output_padding
    out[d] = (in[d] - 1) * P::stride[d] + extra + (P::kernel[d] - 1) * P::dilation[d] + 1 - P::pad_begin[d] -
             P::pad_end[d];
    in_plane *= in[d], out_plane *= out[d], taps *= P::kernel[d];
  }
  const std::size_t N = 2, C = P::C / P::groups, O = P::O / P::groups;
  const auto x = check::random<T>(N * P::C * in_plane, 5), w = check::random<T>(P::C * O * taps, 5),
             add = check::random<T>(N * P::O * out_plane, 5);
  std::vector<T> ordered(w.size());  // [g][O/g][C/g][taps]
  for (std::size_t g = 0; g < P::groups; ++g)
    for (std::size_t o = 0; o < O; ++o)
      for (std::size_t c = 0; c < C; ++c)
        for (std::size_t t = 0; t < taps; ++t)
          ordered[((g * O + o) * C + c) * taps + t] = w[((g * C + c) * O + o) * taps + t];
  const auto packed = pack(ordered, P::groups, P::O, C, taps);
  std::vector<T> y(N * P::O * out_plane, T(99)), work(sofie::conv_transpose_workspace<P>(in, out));
  sofie::conv_transpose<P>(N, in, out, x.data(), packed.data(), y.data(), work.data(),
                           [&](auto acc, std::size_t n, std::size_t o, auto p) SOFIE_INLINE {
                             return acc + sofie::load(&add[(n * P::O + o) * out_plane], p);
                           });
  std::vector<double> want(y.size()), size(y.size(), 1.);
  for (std::size_t n = 0; n < N; ++n)
    for (std::size_t c = 0; c < P::C; ++c)
      for (std::size_t i = 0; i < in_plane; ++i)
        for (std::size_t t = 0; t < taps; ++t) {
          std::size_t ii = i, tt = t, to = 0, scale = 1;
          bool inside = true;
          for (std::size_t d = P::rank; d-- > 0;) {
            const long p =
                long(ii % in[d] * P::stride[d] + tt % P::kernel[d] * P::dilation[d]) - long(P::pad_begin[d]);
            inside = inside && p >= 0 && p < long(out[d]);
            to += std::size_t(p) * scale;
            scale *= out[d], ii /= in[d], tt /= P::kernel[d];
          }
          for (std::size_t o = 0; inside && o < O; ++o) {
            const double term = double(x[(n * P::C + c) * in_plane + i]) * double(w[(c * O + o) * taps + t]);
            want[(n * P::O + c / C * O + o) * out_plane + to] += term;
            size[(n * P::O + c / C * O + o) * out_plane + to] += std::abs(term);
          }
        }
  for (std::size_t i = 0; i < y.size(); ++i)
    if (!check::close(double(y[i]), double(static_cast<T>(want[i] + double(add[i]))), 1e-6 * size[i]))
      check::fail("conv_transpose rank %zu O %zu C %zu g %zu k %zu [%zu]: %g, want %g", P::rank, P::O, P::C,
                  P::groups, taps, i, double(y[i]), want[i] + double(add[i]));
}

template <std::size_t C_, std::size_t O_, std::size_t G, std::size_t K, std::size_t S, std::size_t D,
          std::size_t PB, std::size_t PE>
struct Conv1 {
  static constexpr std::size_t rank = 1, C = C_, O = O_, groups = G;
  static constexpr std::size_t kernel[1] = {K}, stride[1] = {S}, dilation[1] = {D}, pad_begin[1] = {PB},
                               pad_end[1] = {PE};
};
template <std::size_t C_, std::size_t O_, std::size_t G, std::size_t K0, std::size_t K1, std::size_t S0,
          std::size_t S1, std::size_t D, std::size_t PB, std::size_t PE>
struct Conv2 {
  static constexpr std::size_t rank = 2, C = C_, O = O_, groups = G;
  static constexpr std::size_t kernel[2] = {K0, K1}, stride[2] = {S0, S1}, dilation[2] = {D, 1},
                               pad_begin[2] = {PB, PE}, pad_end[2] = {PE, PB};
};
template <std::size_t C_, std::size_t O_, std::size_t G, std::size_t K, std::size_t S, std::size_t PB>
struct Conv3 {
  static constexpr std::size_t rank = 3, C = C_, O = O_, groups = G;
  static constexpr std::size_t kernel[3] = {K, 2, K}, stride[3] = {1, S, S}, dilation[3] = {1, 1, 2},
                               pad_begin[3] = {PB, 0, PB}, pad_end[3] = {PB, PB, 0};
};

// A window over the last two of three dimensions.
struct Flat3 {
  static constexpr std::size_t rank = 3, C = 2, O = 3, groups = 1;
  static constexpr std::size_t kernel[3] = {1, 3, 4}, stride[3] = {1, 1, 1}, dilation[3] = {1, 1, 1},
                               pad_begin[3] = {1, 0, 2}, pad_end[3] = {0, 2, 1};
};

template <class P>
void many2() {
  for (int i = 0; i < 4; ++i) test<P, float>({8 + check::below(50), 8 + check::below(60)});
  test<P, float>({8, 9});
  test<P, double>({8 + check::below(5), 8 + check::below(5)});
}

int main() {
  test<Conv1<3, 5, 1, 3, 1, 1, 0, 0>, float>({40});
  test<Conv1<3, 9, 1, 3, 1, 1, 0, 0>, float>({3});
  test<Conv1<3, 9, 1, 5, 1, 1, 0, 0>, float>({7});
  test<Conv1<4, 6, 2, 3, 2, 2, 3, 1>, float>({30});
  test<Conv1<4, 6, 2, 3, 2, 2, 3, 1>, std::int32_t>({30});
  test<Conv1<4, 6, 2, 2, 3, 1, 0, 0>, float>({30});
  test<Conv1<4, 6, 2, 1, 5, 1, 7, 3>, float>({3});
  many2<Conv2<1, 2, 1, 5, 5, 1, 1, 1, 2, 2>>();
  many2<Conv2<16, 24, 1, 3, 3, 1, 1, 1, 1, 1>>();
  many2<Conv2<6, 6, 2, 5, 3, 1, 1, 1, 2, 1>>();
  many2<Conv2<2, 8, 1, 4, 7, 1, 1, 1, 0, 3>>();
  test<Flat3, float>({4, 17, 21});
  many2<Conv2<3, 16, 1, 7, 7, 2, 2, 1, 3, 3>>();
  many2<Conv2<8, 19, 1, 1, 1, 1, 1, 1, 0, 0>>();
  many2<Conv2<8, 17, 1, 1, 1, 2, 2, 1, 0, 0>>();
  many2<Conv2<6, 6, 6, 3, 3, 1, 1, 1, 1, 1>>();
  many2<Conv2<6, 12, 6, 3, 3, 2, 1, 2, 2, 1>>();
  many2<Conv2<4, 20, 2, 3, 2, 3, 2, 3, 0, 5>>();
  many2<Conv2<4, 7, 1, 3, 2, 1, 1, 1, 0, 0>>();
  test<Conv3<2, 4, 1, 2, 1, 1>, float>({5, 6, 7});
  test<Conv3<2, 3, 1, 3, 2, 2>, float>({5, 16, 17});
  test<Conv3<4, 12, 4, 2, 1, 0>, float>({5, 20, 9});
  test<Conv3<4, 12, 4, 2, 1, 0>, double>({5, 6, 9});
  test_transpose<Conv1<3, 5, 1, 3, 1, 1, 0, 0>, float>({40});
  test_transpose<Conv1<4, 6, 2, 3, 2, 2, 3, 1>, float>({30});
  test_transpose<Conv1<4, 6, 2, 2, 3, 1, 0, 0>, float>({3});
  test_transpose<Conv1<4, 6, 2, 2, 3, 1, 0, 0>, double>({3});
  test_transpose<Conv2<3, 9, 1, 3, 3, 2, 2, 1, 1, 1>, float>({13, 9});
  test_transpose<Conv2<2, 1, 1, 4, 4, 2, 2, 1, 1, 1>, float>({13, 40});
  test_transpose<Conv2<6, 12, 6, 3, 2, 1, 3, 2, 2, 0>, float>({5, 6});
  test_transpose<Conv3<4, 12, 4, 3, 2, 1>, float>({4, 5, 6});
  test_transpose<Conv3<4, 12, 4, 3, 2, 1>, std::int32_t>({4, 5, 6});
  return check::done("conv_test");
}
