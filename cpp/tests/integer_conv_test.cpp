// integer_conv against plain loops: signs, zero points, padding, strides, dilations, groups, one to three
// axes.
#include <cstdint>
#include <limits>
#include <sofie/core/integer.hxx>
#include <sofie/cpu/integer_conv.hxx>

#include "check.hpp"

template <std::size_t Groups, std::size_t Channels, std::size_t Outputs>
struct Shape {
  static constexpr std::size_t C = Groups * Channels, O = Groups * Outputs, groups = Groups;
};
struct Pointwise : Shape<1, 5, 37> {
  static constexpr std::size_t rank = 2, kernel[] = {1, 1}, stride[] = {1, 1}, dilation[] = {1, 1},
                               pad_begin[] = {0, 0}, pad_end[] = {0, 0};
};
struct Square : Shape<1, 8, 61> {
  static constexpr std::size_t rank = 2, kernel[] = {3, 3}, stride[] = {1, 1}, dilation[] = {1, 1},
                               pad_begin[] = {1, 1}, pad_end[] = {1, 1};
};
struct Strided : Shape<2, 3, 2> {
  static constexpr std::size_t rank = 2, kernel[] = {3, 2}, stride[] = {2, 3}, dilation[] = {1, 2},
                               pad_begin[] = {0, 2}, pad_end[] = {1, 3};
};
struct Halved : Shape<1, 5, 3> {
  static constexpr std::size_t rank = 2, kernel[] = {3, 3}, stride[] = {2, 2}, dilation[] = {1, 1},
                               pad_begin[] = {1, 1}, pad_end[] = {1, 0};
};
struct Depthwise : Shape<6, 1, 1> {
  static constexpr std::size_t rank = 2, kernel[] = {3, 3}, stride[] = {1, 1}, dilation[] = {2, 1},
                               pad_begin[] = {3, 0}, pad_end[] = {0, 1};
};
struct Line : Shape<1, 6, 9> {
  static constexpr std::size_t rank = 1, kernel[] = {5}, stride[] = {1}, dilation[] = {1}, pad_begin[] = {2},
                               pad_end[] = {2};
};
struct Volume : Shape<1, 2, 3> {
  static constexpr std::size_t rank = 3, kernel[] = {2, 3, 2}, stride[] = {1, 2, 1}, dilation[] = {1, 1, 1},
                               pad_begin[] = {1, 0, 1}, pad_end[] = {0, 1, 1};
};

template <class P, class X>
void test(bool with_zeros) {
  constexpr std::size_t R = P::rank, channels = P::C / P::groups, outputs = P::O / P::groups,
                        quads = (channels + 3) / 4;
  std::size_t in[R], out[R], n = 1 + check::below(2), pixels = 1, positions = 1, taps = 1, plane = 1;
  for (std::size_t d = 0; d < R; ++d) {
    const std::size_t reach = P::dilation[d] * (P::kernel[d] - 1) + 1;
    in[d] = reach + check::below(R == 1 ? 90 : R == 2 ? 40 : 5);
    out[d] = (in[d] + P::pad_begin[d] + P::pad_end[d] - reach) / P::stride[d] + 1;
    pixels *= in[d], positions *= out[d], taps *= P::kernel[d];
    plane *= (out[d] - 1) * P::stride[d] + reach;
  }
  const auto byte = [] { return static_cast<int>(check::below(256)); };
  std::vector<X> x(n * P::C * pixels);
  for (X& e : x) e = static_cast<X>(byte());
  std::vector<std::int8_t> w(P::O * taps * quads * 4);
  std::vector<std::int32_t> zw(P::O), sums(P::O);
  for (std::size_t o = 0; o < P::O; ++o) {
    zw[o] = with_zeros ? byte() - 128 : 0;
    for (std::size_t t = 0; t < taps; ++t)
      for (std::size_t c = 0; c < channels; ++c) {
        std::int8_t& e = w[(o * taps + t) * quads * 4 + c];
        e = static_cast<std::int8_t>(byte());
        sums[o] += e - zw[o];
      }
  }
  const std::int32_t zx = static_cast<X>(byte());
  std::vector<std::int32_t> y(n * P::O * positions + 1, 77);
  std::vector<std::uint32_t> work(quads * (plane + taps * sofie::kIntegerConvBlock) +
                                  2 * sofie::kIntegerConvBlock);
  sofie::integer_conv<P>(n, in, out, x.data(), &zx, w.data(), sums.data(), with_zeros ? zw.data() : nullptr,
                         y.data(), work.data(),
                         [&](auto acc, std::size_t image, std::size_t o, auto) SOFIE_INLINE {
                           return sofie::add(acc, static_cast<std::int32_t>(1000 * image + o));
                         });
  // An index as its coordinates, last axis fastest.
  const auto at = [](std::size_t i, const std::size_t* extent, std::size_t d) {
    for (std::size_t e = R - 1; e > d; --e) i /= extent[e];
    return i % extent[d];
  };
  for (std::size_t image = 0; image < n; ++image)
    for (std::size_t o = 0; o < P::O; ++o)
      for (std::size_t p = 0; p < positions; ++p) {
        std::int32_t want = static_cast<std::int32_t>(1000 * image + o);
        for (std::size_t t = 0; t < taps; ++t) {
          std::size_t pixel = 0;
          bool inside = true;
          for (std::size_t d = 0; d < R; ++d) {
            const std::size_t i =
                at(p, out, d) * P::stride[d] + at(t, P::kernel, d) * P::dilation[d] - P::pad_begin[d];
            inside = inside && i < in[d];
            pixel = pixel * in[d] + i;
          }
          for (std::size_t c = 0; inside && c < channels; ++c)
            want += (x[(image * P::C + o / outputs * channels + c) * pixels + pixel] - zx) *
                    (w[(o * taps + t) * quads * 4 + c] - zw[o]);
        }
        const std::int32_t got = y[(image * P::O + o) * positions + p];
        if (got != want) check::fail("integer_conv [%zu][%zu][%zu]: %d, want %d", image, o, p, got, want);
      }
  if (y.back() != 77) check::fail("integer_conv wrote beyond the end");
}

int main() {
  for (int i = 0; i < 24; ++i) {
    const bool zeros = i % 2;
    test<Pointwise, std::uint8_t>(zeros), test<Pointwise, std::int8_t>(zeros);
    test<Square, std::uint8_t>(zeros), test<Square, std::int8_t>(zeros);
    test<Strided, std::uint8_t>(zeros), test<Strided, std::int8_t>(zeros);
    test<Halved, std::uint8_t>(zeros), test<Halved, std::int8_t>(zeros);
    test<Depthwise, std::uint8_t>(zeros), test<Depthwise, std::int8_t>(zeros);
    test<Line, std::uint8_t>(zeros), test<Line, std::int8_t>(zeros);
    test<Volume, std::uint8_t>(zeros), test<Volume, std::int8_t>(zeros);
  }
  return check::done("integer_conv_test");
}
