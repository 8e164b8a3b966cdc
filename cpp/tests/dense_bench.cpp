// Times of chains of dense layers, 10 x (50 -> 50 + ReLU) and 5 x (200 -> 200 + ReLU), per inference in
// microseconds: the median of many repetitions.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <sofie/gemm.hxx>
#include <vector>

namespace {
alignas(64) float weights[10 * 208 * 208], bias[256], ping[512 * 208], pong[512 * 208];

template <std::size_t D, std::size_t L, class M>
void chain(M m) {
  const float* from = ping;
  float* to = pong;
  for (std::size_t l = 0; l < L; ++l) {
    const float* b = bias;
    sofie::gemm(
        m, sofie::fixed<D>{}, sofie::fixed<D>{}, from, D, weights + l * sofie::packed_size(D, D), to, D,
        [=](auto acc, std::size_t, auto j) SOFIE_INLINE { return sofie::max(acc + sofie::load(b, j), 0.f); });
    from = to;
    to = to == pong ? ping : pong;
  }
}

template <class F>
void time(const char* name, double flops, F f) {
  using clock = std::chrono::steady_clock;
  std::vector<double> t;
  const auto begin = clock::now();
  int inner = 1;
  while (clock::now() - begin < std::chrono::milliseconds(400)) {
    const auto a = clock::now();
    for (int i = 0; i < inner; ++i) f();
    t.push_back(std::chrono::duration<double, std::micro>(clock::now() - a).count() / inner);
    if (t.back() * inner < 20) inner *= 2;
  }
  std::sort(t.begin(), t.end());
  const double us = t[t.size() / 2];
  std::printf("%-32s %9.3f us %8.1f GFLOP/s\n", name, us, flops / us * 1e-3);
}
}  // namespace

int main() {
  for (float& w : weights) w = 0.001f;
  for (float& b : bias) b = 0.1f;
  for (std::size_t batch : {1, 2, 8, 32, 256}) {
    char name[64];
    std::snprintf(name, sizeof name, "10 x 50, batch %zu", batch);
    time(name, 50000. * double(batch), [=] { chain<50, 10>(batch); });
  }
  time("10 x 50, batch 1 fixed", 50000., [] { chain<50, 10>(sofie::fixed<1>{}); });
  time("10 x 50, batch 256 fixed", 50000. * 256, [] { chain<50, 10>(sofie::fixed<256>{}); });
  time("5 x 200, batch 1 fixed", 400000., [] { chain<200, 5>(sofie::fixed<1>{}); });
  time("5 x 200, batch 256", 400000. * 256, [] { chain<200, 5>(std::size_t(256)); });
  std::printf("checksum %g\n", double(ping[0] + pong[0]));
  return 0;
}
