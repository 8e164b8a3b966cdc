// Times of single convolutions with bias and ReLU: shapes of ResNet18 and of the SOFIE paper's benchmarks.
#include <sofie/cpu/conv.hxx>
#include <sofie/cpu/conv_transpose.hxx>
#include <sofie/cpu/pool.hxx>

#include "bench.hpp"

namespace {
template <std::size_t C_, std::size_t O_, std::size_t K, std::size_t S, std::size_t Pad, std::size_t G = 1>
struct Conv {
  static constexpr std::size_t rank = 2, C = C_, O = O_, groups = G;
  static constexpr std::size_t kernel[2] = {K, K}, stride[2] = {S, S}, dilation[2] = {1, 1},
                               pad_begin[2] = {Pad, Pad}, pad_end[2] = {Pad, Pad};
};

template <class P>
void run(const char* name, std::size_t size) {
  const std::size_t in[2] = {size, size};
  const std::size_t out =
      sofie::conv_out(size, P::kernel[0], P::stride[0], 1, P::pad_begin[0], P::pad_end[0]);
  const std::size_t taps = P::C / P::groups * P::kernel[0] * P::kernel[1];
  const std::size_t per_group = (P::O / P::groups + 7) / 8 * 8;
  std::vector<float> x(P::C * size * size, 0.5f), w(P::groups * per_group * taps, 0.01f), y(P::O * out * out),
      bias(P::O, 0.1f), work(sofie::conv_workspace<P>(in));
  bench::time(name, 2. * double(out * out * P::O * taps), [&] {
    sofie::conv<P>(1, in, x.data(), w.data(), y.data(), work.data(),
                   [&](auto acc, std::size_t, std::size_t o, auto)
                       SOFIE_INLINE { return sofie::max(acc + bias[o], 0.f); });
  });
}

struct Pool {
  static constexpr std::size_t rank = 2;
  static constexpr std::size_t kernel[2] = {3, 3}, stride[2] = {2, 2}, dilation[2] = {1, 1},
                               pad_begin[2] = {1, 1}, pad_end[2] = {1, 1};
};
}  // namespace

int main() {
  run<Conv<1, 2, 5, 1, 0>>("1 -> 2, 5x5, 100", 100);
  run<Conv<1, 2, 5, 1, 2>>("1 -> 2, 5x5, 100 padded", 100);
  run<Conv<64, 128, 5, 1, 2>>("64 -> 128, 5x5, 100", 100);
  run<Conv<128, 1, 5, 1, 2>>("128 -> 1, 5x5, 100", 100);
  run<Conv<3, 64, 7, 2, 3>>("3 -> 64, 7x7 / 2, 224", 224);
  run<Conv<64, 64, 3, 1, 1>>("64 -> 64, 3x3, 56", 56);
  run<Conv<64, 128, 3, 2, 1>>("64 -> 128, 3x3 / 2, 56", 56);
  run<Conv<64, 128, 1, 2, 0>>("64 -> 128, 1x1 / 2, 56", 56);
  run<Conv<128, 128, 3, 1, 1>>("128 -> 128, 3x3, 28", 28);
  run<Conv<256, 256, 3, 1, 1>>("256 -> 256, 3x3, 14", 14);
  run<Conv<512, 512, 3, 1, 1>>("512 -> 512, 3x3, 7", 7);
  run<Conv<64, 256, 1, 1, 0>>("64 -> 256, 1x1, 56", 56);
  run<Conv<512, 2048, 1, 1, 0>>("512 -> 2048, 1x1, 7", 7);
  run<Conv<64, 64, 3, 1, 1, 64>>("64 depthwise, 3x3, 56", 56);
  std::vector<float> x(64 * 112 * 112, 1.f), y(64 * 56 * 56);
  bench::time("max pool 3x3 / 2, 64 x 112", 0.,
              [&] { sofie::max_pool<Pool>(64, {112, 112}, {56, 56}, x.data(), y.data()); });
  return 0;
}
