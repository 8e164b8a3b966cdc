// RNN, GRU and LSTM against the formulas of the ONNX specification, in double.
#include <cstdint>
#include <sofie/recurrent.hxx>

#include "check.hpp"

using Vec = std::vector<double>;

// W^T [k][n] from W[n][k], packed for gemm.
template <class T>
std::vector<T> pack_transposed(const T* w, std::size_t n, std::size_t k) {
  std::vector<T> p(sofie::packed_size(n, k), T(0));
  for (std::size_t j = 0; j < n; ++j)
    for (std::size_t l = 0; l < k; ++l) p[j / 16 * 16 * k + l * 16 + j % 16] = w[j * k + l];
  return p;
}

struct Setup {
  static constexpr std::size_t I = 5, H = 19;
  static constexpr bool reverse = false, linear_before_reset = false, input_forget = false, peepholes = true;
  static constexpr float clip = 0.f;
  static constexpr sofie::Sigmoid f{};
  static constexpr sofie::Tanh g{}, h{};
};
struct Other : Setup {
  static constexpr std::size_t I = 3, H = 32;
  static constexpr bool reverse = true, linear_before_reset = true, input_forget = true, peepholes = false;
  static constexpr float clip = 0.7f;
  static constexpr sofie::HardSigmoid f{};
  static constexpr sofie::ScaledTanh g{1.1f, 0.9f};
  static constexpr sofie::Softsign h{};
};

enum class Cell { rnn, gru, lstm };

template <class P, class T>
void test(Cell cell, bool with_lens, bool batch_major, std::size_t batch) {
  constexpr std::size_t I = P::I, H = P::H;
  const std::size_t G = cell == Cell::rnn ? 1 : cell == Cell::gru ? 3 : 4, seq = 6;
  const auto x = check::random<T>(seq * batch * I), w = check::random<T>(G * H * I, .5),
             r = check::random<T>(G * H * H, .3), bias = check::random<T>(2 * G * H),
             peep = check::random<T>(3 * H), h0 = check::random<T>(batch * H),
             c0 = check::random<T>(batch * H);
  std::vector<std::int32_t> lens(batch);
  for (auto& l : lens) l = static_cast<std::int32_t>(check::below(seq + 1));
  const std::size_t x_time = batch_major ? I : batch * I, x_batch = batch_major ? seq * I : I;
  const std::size_t y_time = batch_major ? H : batch * H, y_batch = batch_major ? seq * H : H;
  const auto pw = pack_transposed(w.data(), G * H, I);
  auto pr = pack_transposed(r.data(), G * H, H);
  if (cell == Cell::gru && !P::linear_before_reset) {
    pr = pack_transposed(r.data(), 2 * H, H);
    const auto rest = pack_transposed(r.data() + 2 * H * H, H, H);
    pr.insert(pr.end(), rest.begin(), rest.end());
  }
  std::vector<T> y(seq * batch * H, T(9)), yh(batch * H), yc(batch * H),
      work(sofie::recurrent_workspace(G, seq, batch, H));
  const std::int32_t* l = with_lens ? lens.data() : nullptr;
  if (cell == Cell::rnn)
    sofie::rnn_direction<P>(seq, batch, x.data(), x_time, x_batch, l, pw.data(), pr.data(), bias.data(),
                            h0.data(), y.data(), y_time, y_batch, yh.data(), work.data());
  if (cell == Cell::gru)
    sofie::gru_direction<P>(seq, batch, x.data(), x_time, x_batch, l, pw.data(), pr.data(), bias.data(),
                            h0.data(), y.data(), y_time, y_batch, yh.data(), work.data());
  if (cell == Cell::lstm)
    sofie::lstm_direction<P>(seq, batch, x.data(), x_time, x_batch, l, pw.data(), pr.data(), bias.data(),
                             peep.data(), h0.data(), c0.data(), y.data(), y_time, y_batch, yh.data(),
                             yc.data(), work.data());
  const auto expect = [&](const char* what, double got, double want) {
    if (!check::close(got, want, 2e-6))
      check::fail("cell %d H %zu %s: %g, want %g", int(cell), H, what, got, want);
  };
  const auto clip = [](double v) {
    return P::clip > 0 ? std::min(std::max(v, -double(P::clip)), double(P::clip)) : v;
  };
  for (std::size_t b = 0; b < batch; ++b) {
    const std::size_t n = with_lens ? std::size_t(lens[b]) : seq;
    Vec h(h0.begin() + long(b * H), h0.begin() + long((b + 1) * H)),
        c(c0.begin() + long(b * H), c0.begin() + long((b + 1) * H));
    for (std::size_t step = 0; step < n; ++step) {
      const std::size_t t = P::reverse ? n - 1 - step : step;
      const auto in = [&](std::size_t k) {  // x W + Wb
        double s = double(bias[k]);
        for (std::size_t i = 0; i < I; ++i)
          s += double(w[k * I + i]) * double(x[t * x_time + b * x_batch + i]);
        return s;
      };
      const auto rec = [&](std::size_t k, const Vec& v) {  // h R + Rb
        double s = double(bias[G * H + k]);
        for (std::size_t i = 0; i < H; ++i) s += double(r[k * H + i]) * v[i];
        return s;
      };
      Vec next(H), reset(H), rh(H);
      if (cell == Cell::gru)
        for (std::size_t i = 0; i < H; ++i) rh[i] = (reset[i] = P::f(clip(in(H + i) + rec(H + i, h)))) * h[i];
      for (std::size_t i = 0; i < H; ++i) {
        if (cell == Cell::rnn) next[i] = P::f(clip(in(i) + rec(i, h)));
        if (cell == Cell::gru) {
          const double z = P::f(clip(in(i) + rec(i, h)));
          const double m = P::g(clip(
              in(2 * H + i) + (P::linear_before_reset ? reset[i] * rec(2 * H + i, h) : rec(2 * H + i, rh))));
          next[i] = (1 - z) * m + z * h[i];
        }
        if (cell == Cell::lstm) {
          const auto p = [&](std::size_t k, double v) {
            return P::peepholes ? double(peep[k * H + i]) * v : 0.;
          };
          const double gi = P::f(clip(in(i) + rec(i, h) + p(0, c[i])));
          const double gf =
              P::input_forget ? 1 - gi : P::f(clip(in(2 * H + i) + rec(2 * H + i, h) + p(2, c[i])));
          c[i] = gf * c[i] + gi * P::g(clip(in(3 * H + i) + rec(3 * H + i, h)));
          next[i] = P::f(clip(in(H + i) + rec(H + i, h) + p(1, c[i]))) * P::h(c[i]);
        }
      }
      h = next;
      for (std::size_t i = 0; i < H; ++i) expect("Y", double(y[t * y_time + b * y_batch + i]), h[i]);
    }
    for (std::size_t t = n; t < seq; ++t)
      for (std::size_t i = 0; i < H; ++i)
        expect("Y behind the end", double(y[t * y_time + b * y_batch + i]), 0);
    for (std::size_t i = 0; i < H; ++i) expect("Y_h", double(yh[b * H + i]), h[i]);
    for (std::size_t i = 0; cell == Cell::lstm && i < H; ++i) expect("Y_c", double(yc[b * H + i]), c[i]);
  }
}

int main() {
  for (Cell cell : {Cell::rnn, Cell::gru, Cell::lstm})
    for (bool lens : {false, true})
      for (bool batch_major : {false, true})
        for (std::size_t batch : {1, 3, 17}) {
          test<Setup, float>(cell, lens, batch_major, batch);
          test<Other, float>(cell, lens, batch_major, batch);
          test<Setup, double>(cell, lens, batch_major, batch);
          test<Other, double>(cell, lens, batch_major, batch);
        }
  // Every activation at least compiles and is the same for scalars and vectors.
  const auto same = [](auto f) {
    for (float x : {-3.f, -0.4f, 0.f, 0.3f, 2.f})
      if (f(x) != f(sofie::broadcast(x))[1])
        check::fail("activation: scalar and vector differ at %g", double(x));
  };
  same(sofie::Relu{}), same(sofie::Affine{2.f, 3.f}), same(sofie::LeakyRelu{}),
      same(sofie::ThresholdedRelu{});
  same(sofie::Elu{}), same(sofie::Softplus{}), same(sofie::Softsign{}), same(sofie::HardSigmoid{}),
      same(sofie::ScaledTanh{});
  return check::done("recurrent_test");
}
