// Times of recurrent cells, batched products and elementary functions.
#include <sofie/cpu/gemm.hxx>
#include <sofie/cpu/math.hxx>
#include <sofie/cpu/matmul.hxx>
#include <sofie/cpu/recurrent.hxx>

#include "bench.hpp"

namespace {
template <std::size_t I_, std::size_t H_>
struct Cell {
  static constexpr std::size_t I = I_, H = H_;
  static constexpr bool reverse = false, linear_before_reset = true, input_forget = false, peepholes = false;
  static constexpr float clip = 0.f;
  static constexpr sofie::Sigmoid f{};
  static constexpr sofie::Tanh g{}, h{};
};

template <class P>
void recurrent(std::size_t seq, std::size_t batch) {
  constexpr std::size_t columns = sofie::gate_columns(4, P::H);
  std::vector<float> x(seq * batch * P::I, .1f), w(columns * P::I, .01f), r(columns * P::H, .01f),
      b(2 * columns), y(seq * batch * P::H), work(sofie::recurrent_workspace(columns, seq, batch, P::H));
  char name[64];
  std::snprintf(name, sizeof name, "GRU  %zu -> %zu, %zu steps, batch %zu", P::I, P::H, seq, batch);
  bench::time(name, 6. * double(seq * batch * (P::I + P::H) * P::H), [&] {
    sofie::gru_direction<P>(seq, batch, x.data(), batch * P::I, P::I, nullptr, w.data(), r.data(), b.data(),
                            nullptr, y.data(), batch * P::H, P::H, nullptr, work.data());
  });
  std::snprintf(name, sizeof name, "LSTM %zu -> %zu, %zu steps, batch %zu", P::I, P::H, seq, batch);
  bench::time(name, 8. * double(seq * batch * (P::I + P::H) * P::H), [&] {
    sofie::lstm_direction<P>(seq, batch, x.data(), batch * P::I, P::I, nullptr, w.data(), r.data(), b.data(),
                             nullptr, nullptr, nullptr, y.data(), batch * P::H, P::H, nullptr, nullptr,
                             work.data());
  });
}

void attention(std::size_t heads, std::size_t points, std::size_t dim) {
  const std::size_t row = heads * dim;
  std::vector<float> q(points * row, .1f), k(points * row, .1f), s(heads * points * points),
      o(heads * points * dim),
      work(sofie::matmul_workspace(points, points) + sofie::matmul_workspace(points, dim));
  char name[64];
  std::snprintf(name, sizeof name, "Q K^T, %zu heads, %zu x %zu", heads, points, dim);
  const auto plain = [](auto acc, std::size_t, std::size_t, auto) SOFIE_INLINE { return acc; };
  bench::time(name, 2. * double(heads * points * points * dim), [&] {
    sofie::matmul(1, heads, points, points, dim, q.data(), 0, dim, row, 1, k.data(), 0, dim, 1, row, s.data(),
                  work.data(), plain);
  });
  std::snprintf(name, sizeof name, "P V, %zu heads, %zu x %zu", heads, points, dim);
  bench::time(name, 2. * double(heads * points * points * dim), [&] {
    sofie::matmul(1, heads, points, dim, points, s.data(), 0, points * points, points, 1, k.data(), 0, dim,
                  row, 1, o.data(), work.data(), plain);
  });
}

template <class F>
void function(const char* name, F f) {
  std::vector<float> x(1024), y(1024);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = 0.001f * float(i) + 0.1f;
  asm volatile("" ::"r"(x.data()), "r"(y.data()) : "memory");  // both are seen from outside
  char text[64];
  std::snprintf(text, sizeof text, "1024 x %s", name);
  bench::time(text, 0, [&] {
    sofie::map(x.size(),
               [&](auto j) SOFIE_INLINE { sofie::store(y.data(), j, f(sofie::load(x.data(), j))); });
  });
}
}  // namespace

int main() {
  recurrent<Cell<32, 50>>(60, 1);
  recurrent<Cell<32, 50>>(60, 64);
  recurrent<Cell<64, 128>>(30, 1);
  attention(8, 64, 16);
  attention(8, 128, 64);
  attention(4, 7, 8);
  function("exp", [](auto v) SOFIE_INLINE { return sofie::exp(v); });
  function("log", [](auto v) SOFIE_INLINE { return sofie::log(v); });
  function("tanh", [](auto v) SOFIE_INLINE { return sofie::tanh(v); });
  function("sigmoid", [](auto v) SOFIE_INLINE { return sofie::sigmoid(v); });
  function("erf", [](auto v) SOFIE_INLINE { return sofie::erf(v); });
  function("softplus", [](auto v) SOFIE_INLINE { return sofie::softplus(v); });
  function("sin", [](auto v) SOFIE_INLINE { return sofie::sin(v); });
  function("pow 1.7", [](auto v) SOFIE_INLINE { return sofie::pow(v, 1.7f); });
  std::vector<float> x(1000, 1.f);
  float total = 0;
  bench::time("reduce_sum of 1000", 1000., [&] {
    total += sofie::reduce_sum(x.size(), [&](auto j) SOFIE_INLINE { return sofie::load(x.data(), j); });
  });
  bench::time("reduce_max of 50", 50., [&] {
    total +=
        sofie::reduce_max(sofie::fixed<50>{}, [&](auto j) SOFIE_INLINE { return sofie::load(x.data(), j); });
  });
  std::printf("checksum %g\n", double(total));
  return 0;
}
