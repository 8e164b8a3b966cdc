// RNN, GRU and LSTM against the formulas of the ONNX specification, in double.
#include <cstdint>
#include <sofie/cpu/recurrent.hxx>

#include "check.hpp"

using Vec = std::vector<double>;

// In memory of exactly their size, so that the sanitizer sees every read beyond it.
template <class T>
std::vector<T> exact(const std::vector<T>& v) {
  return std::vector<T>(v.begin(), v.end());
}

// The weights [G * H][k] of G gates as [k][columns], in the order of Strips.
template <std::size_t G, std::size_t H, class T>
std::vector<T> in_order(const T* w, std::size_t k) {
  constexpr std::size_t N = sofie::gate_columns(G, H), whole = H / 16 * 16;
  std::vector<T> m(k * N, T(0));
  for (std::size_t g = 0; g < G; ++g)
    for (std::size_t u = 0; u < H; ++u) {
      const std::size_t column =
          u < whole ? u / 16 * 16 * G + g * 16 + u % 16 : whole * G + g * (H - whole) + u - whole;
      for (std::size_t l = 0; l < k; ++l) m[l * N + column] = w[(g * H + u) * k + l];
    }
  return m;
}
template <class T>
void append(std::vector<T>& to, const std::vector<T>& from) {
  to.insert(to.end(), from.begin(), from.end());
}
// [k][n] packed for gemm; n is a multiple of 16.
template <class T>
std::vector<T> panels(const std::vector<T>& m, std::size_t k) {
  const std::size_t n = m.size() / k;
  std::vector<T> p;
  for (std::size_t j = 0; j < n; j += 16)
    for (std::size_t l = 0; l < k; ++l) p.insert(p.end(), &m[l * n + j], &m[l * n + j] + 16);
  return p;
}
// [k][N] packed in Strips.
template <std::size_t N, class T>
std::vector<T> strips(const std::vector<T>& m, std::size_t k) {
  using S = sofie::Strips<N>;
  std::vector<T> p;
  for (std::size_t s = 0; s < S::count; ++s)
    for (std::size_t l = 0; l < k; ++l) {
      const T* row = m.data() + l * N + S::first(s);
      p.insert(p.end(), row, row + S::width(s));
    }
  return p;
}

// The operands of a cell, packed.
template <std::size_t H, class T>
struct Packed {
  std::vector<T> w, r, bias;
  // Gates first .. first + G, whose products are made together; biases apart if the kernel wants them so.
  template <std::size_t G>
  void part(const T* w_, const T* r_, const T* b, std::size_t inputs, std::size_t first, std::size_t gates,
            bool apart) {
    constexpr std::size_t N = sofie::gate_columns(G, H);
    append(w, panels(in_order<G, H>(w_ + first * H * inputs, inputs), inputs));
    append(r, strips<N>(in_order<G, H>(r_ + first * H * H, H), H));
    auto wb = in_order<G, H>(b + first * H, 1), rb = in_order<G, H>(b + (gates + first) * H, 1);
    for (std::size_t k = 0; !apart && k < N; ++k) wb[k] += rb[k];
    append(bias, wb);
    if (apart) append(bias, rb);
  }
};

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

// Odd sizes of the state.
template <std::size_t Size, bool Linear>
struct Sized : Setup {
  static constexpr std::size_t H = Size;
  static constexpr bool linear_before_reset = Linear;
};

enum class Cell { rnn, gru, lstm };

template <Cell cell, class P, class T>
void test(bool with_lens, bool batch_major, std::size_t batch, bool initial) {
  constexpr std::size_t I = P::I, H = P::H;
  constexpr bool apart = cell == Cell::gru && P::linear_before_reset;
  const std::size_t G = cell == Cell::rnn ? 1 : cell == Cell::gru ? 3 : 4, seq = 6;
  const auto x = exact(check::random<T>(seq * batch * I)), w = check::random<T>(G * H * I, .5),
             r = check::random<T>(G * H * H, H < 30 ? .3 : .1), bias = check::random<T>(2 * G * H),
             peep = exact(check::random<T>(3 * H)), h0 = exact(check::random<T>(batch * H, initial ? 1 : 0)),
             c0 = exact(check::random<T>(batch * H, initial ? 1 : 0));
  std::vector<std::int32_t> lens(batch);
  for (auto& l : lens) l = static_cast<std::int32_t>(check::below(seq + 1));
  const std::size_t x_time = batch_major ? I : batch * I, x_batch = batch_major ? seq * I : I;
  const std::size_t y_time = batch_major ? H : batch * H, y_batch = batch_major ? seq * H : H;
  Packed<H, T> packed;
  const auto part = [&](auto gates, std::size_t first) {
    packed.template part<decltype(gates)::value>(w.data(), r.data(), bias.data(), I, first, G, apart);
  };
  if constexpr (cell == Cell::rnn) part(sofie::fixed<1>{}, 0);
  if constexpr (cell == Cell::gru && apart) part(sofie::fixed<3>{}, 0);
  if constexpr (cell == Cell::gru && !apart) part(sofie::fixed<2>{}, 0), part(sofie::fixed<1>{}, 2);
  if constexpr (cell == Cell::lstm) part(sofie::fixed<4>{}, 0);
  const auto pw = exact(packed.w), pr = exact(packed.r), pb = exact(packed.bias);
  std::vector<T> y(seq * batch * H, T(9)), yh(batch * H), yc(batch * H);
  const std::int32_t* l = with_lens ? lens.data() : nullptr;
  // Entries first .. first + count as a batch of their own.
  const auto run = [&](std::size_t first, std::size_t count, T* to, std::size_t time, std::size_t step,
                       T* last, T* last_c) {
    const std::size_t columns = pb.size() / (apart ? 2 : 1), xb = x_batch;
    std::vector<T> work(sofie::recurrent_workspace(columns, seq, count, H));
    const T *in = x.data() + first * xb, *h = initial ? h0.data() + first * H : nullptr,
            *c = initial ? c0.data() + first * H : nullptr;
    const std::int32_t* ends = l == nullptr ? nullptr : l + first;
    if constexpr (cell == Cell::rnn)
      sofie::rnn_direction<P>(seq, count, in, x_time, xb, ends, pw.data(), pr.data(), pb.data(), h, to, time,
                              step, last, work.data());
    if constexpr (cell == Cell::gru)
      sofie::gru_direction<P>(seq, count, in, x_time, xb, ends, pw.data(), pr.data(), pb.data(), h, to, time,
                              step, last, work.data());
    if constexpr (cell == Cell::lstm)
      sofie::lstm_direction<P>(seq, count, in, x_time, xb, ends, pw.data(), pr.data(), pb.data(), peep.data(),
                               h, c, to, time, step, last, last_c, work.data());
  };
  run(0, batch, y.data(), y_time, y_batch, yh.data(), yc.data());
  for (std::size_t b = 0; b < batch; ++b) {
    std::vector<T> one(seq * H), one_h(H), one_c(H);
    run(b, 1, one.data(), H, H, one_h.data(), one_c.data());
    bool same = true;
    for (std::size_t t = 0; t < seq; ++t)
      for (std::size_t i = 0; i < H; ++i) same = same && one[t * H + i] == y[t * y_time + b * y_batch + i];
    for (std::size_t i = 0; i < H; ++i) same = same && one_h[i] == yh[b * H + i];
    if (!same) check::fail("cell %d H %zu: entry %zu of %zu depends on the others", int(cell), H, b, batch);
  }
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

template <Cell cell>
void all() {
  for (bool lens : {false, true})
    for (bool batch_major : {false, true})
      for (std::size_t batch : {1, 3, 17}) {
        test<cell, Setup, float>(lens, batch_major, batch, true);
        test<cell, Other, float>(lens, batch_major, batch, lens);
        test<cell, Setup, double>(lens, batch_major, batch, lens);
        test<cell, Other, double>(lens, batch_major, batch, true);
      }
  // Single panels, panels that are not whole, and weights that fill the L1 cache or are larger.
  for (std::size_t batch : {1, 9}) {
    test<cell, Sized<1, false>, float>(false, false, batch, true);
    test<cell, Sized<3, true>, float>(false, false, batch, true);
    test<cell, Sized<15, false>, float>(true, true, batch, false);
    test<cell, Sized<17, true>, float>(true, false, batch, true);
    test<cell, Sized<50, false>, float>(false, false, batch, true);
    test<cell, Sized<50, true>, float>(true, false, batch, false);
    test<cell, Sized<100, false>, float>(true, false, batch, true);
    test<cell, Sized<128, true>, float>(false, false, batch, false);
  }
}

int main() {
  all<Cell::rnn>();
  all<Cell::gru>();
  all<Cell::lstm>();
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
