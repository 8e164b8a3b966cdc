// Times of chains of dense layers, 10 x (50 -> 50 + ReLU) and 5 x (200 -> 200 + ReLU), per inference in
// microseconds: the median of many repetitions.
#include <sofie/cpu/gemm.hxx>

#include "bench.hpp"

namespace {
alignas(64) float weights[10 * 208 * 208], bias[256], ping[512 * 208], pong[512 * 208];

template <std::size_t D, std::size_t L, class M>
void chain(M m) {
  const float* from = ping;
  float* to = pong;
  for (std::size_t l = 0; l < L; ++l) {
    sofie::gemm(m, sofie::fixed<D>{}, sofie::fixed<D>{}, from, D, weights + l * sofie::packed_size(D, D), to,
                D, sofie::BiasRelu<float>{bias});
    from = to;
    to = to == pong ? ping : pong;
  }
}

}  // namespace

int main() {
  for (float& w : weights) w = 0.001f;
  for (float& b : bias) b = 0.1f;
  for (std::size_t batch : {1, 2, 8, 32, 256}) {
    char name[64];
    std::snprintf(name, sizeof name, "10 x 50, batch %zu", batch);
    bench::time(name, 50000. * double(batch), [=] { chain<50, 10>(batch); });
  }
  bench::time("10 x 50, batch 1 fixed", 50000., [] { chain<50, 10>(sofie::fixed<1>{}); });
  bench::time("10 x 50, batch 256 fixed", 50000. * 256, [] { chain<50, 10>(sofie::fixed<256>{}); });
  bench::time("5 x 200, batch 1 fixed", 400000., [] { chain<200, 5>(sofie::fixed<1>{}); });
  bench::time("5 x 200, batch 256", 400000. * 256, [] { chain<200, 5>(std::size_t(256)); });
  std::printf("checksum %g\n", double(ping[0] + pong[0]));
  return 0;
}
