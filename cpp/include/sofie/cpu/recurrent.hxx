// ONNX RNN, GRU and LSTM, one direction per call.
//
// The products of all time steps with the input weights are one gemm; a step then multiplies the hidden state
// with the recurrent weights (state_product.hxx) and applies the gates vector by vector.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "gemm.hxx"
#include "math.hxx"
#include "simd.hxx"
#include "state_product.hxx"

namespace sofie {
inline namespace SOFIE_ISA {

// ---------------------------------------------------------------------------------------------------------
// Activations, with the defaults of ONNX
// ---------------------------------------------------------------------------------------------------------

struct Sigmoid {
  template <class V>
  SOFIE_INLINE V operator()(V x) const {
    return sigmoid(x);
  }
};
struct Tanh {
  template <class V>
  SOFIE_INLINE V operator()(V x) const {
    return tanh(x);
  }
};
struct Relu {
  template <class V>
  SOFIE_INLINE V operator()(V x) const {
    return relu(x);
  }
};
struct Affine {
  float alpha = 1.f, beta = 0.f;
  template <class V>
  SOFIE_INLINE V operator()(V x) const {
    return x * alpha + beta;
  }
};
struct LeakyRelu {
  float alpha = 0.01f;
  template <class V>
  SOFIE_INLINE V operator()(V x) const {
    return select(x < 0.f, x * alpha, x);
  }
};
struct ThresholdedRelu {
  float alpha = 1.f;
  template <class V>
  SOFIE_INLINE V operator()(V x) const {
    return select(x > alpha, x, 0.f);
  }
};
struct ScaledTanh {
  float alpha = 1.f, beta = 1.f;
  template <class V>
  SOFIE_INLINE V operator()(V x) const {
    return tanh(x * beta) * alpha;
  }
};
struct HardSigmoid {
  float alpha = 0.2f, beta = 0.5f;
  template <class V>
  SOFIE_INLINE V operator()(V x) const {
    return min(max(x * alpha + beta, 0.f), 1.f);
  }
};
struct Elu {
  float alpha = 1.f;
  template <class V>
  SOFIE_INLINE V operator()(V x) const {
    return select(x < 0.f, expm1(x) * alpha, x);
  }
};
struct Softsign {
  template <class V>
  SOFIE_INLINE V operator()(V x) const {
    return softsign(x);
  }
};
struct Softplus {
  template <class V>
  SOFIE_INLINE V operator()(V x) const {
    return softplus(x);
  }
};

// ---------------------------------------------------------------------------------------------------------
// What the three cells share
// ---------------------------------------------------------------------------------------------------------

/// Columns of the weights of G gates of H units: in whole panels.
constexpr std::size_t gate_columns(std::size_t gates, std::size_t hidden) {
  return (gates * hidden + kPanel - 1) / kPanel * kPanel;
}

/// Elements of workspace of a direction whose weights have that many columns.
constexpr std::size_t recurrent_workspace(std::size_t columns, std::size_t seq, std::size_t batch,
                                          std::size_t hidden) {
  return (seq + 1) * batch * columns + 2 * batch * hidden;
}

namespace detail {

/// Where the gates of some units are in a row of columns.
template <class J>
struct GatePlace {
  J lane;
  std::size_t first, step;
  template <class T>
  SOFIE_INLINE auto operator()(const T* row, std::size_t gate) const {
    return load(row + first + gate * step, lane);
  }
};

// Calls body(j, place) for all units j, vector by vector (T other than float: one by one). The columns go
// unit by unit, 16 of them at a time and within these gate by gate; the units that are left follow without
// gaps. So the gates of a unit are computed together, and little is wasted on padding.
template <class T, std::size_t G, std::size_t H, class F>
SOFIE_INLINE inline void each_unit(F&& body) {
  constexpr std::size_t whole = H / kPanel * kPanel, rest = H - whole;
  if constexpr (std::is_same<T, float>::value) {
    for (std::size_t block = 0; block < whole; block += kPanel) {
      SOFIE_UNROLL
      for (std::size_t l = 0; l < kPanel; l += kLanes) {
        body(Full{block + l}, GatePlace<Full>{{0}, block * G + l, kPanel});
      }
    }
    if constexpr (rest > 0) {
      constexpr std::size_t full = rest / kLanes * kLanes;
      SOFIE_UNROLL
      for (std::size_t l = 0; l < full; l += kLanes) {
        body(Full{whole + l}, GatePlace<Full>{{0}, whole * G + l, rest});
      }
      if constexpr (full < rest) {
        body(Partial{whole + full, rest - full},
             GatePlace<Partial>{{0, rest - full}, whole * G + full, rest});
      }
    }
  } else {
    for (std::size_t j = 0; j < H; ++j) {
      const bool packed = j < whole;
      const std::size_t first = packed ? j / kPanel * kPanel * G + j % kPanel : whole * G + j - whole;
      body(Scalar{j}, GatePlace<Scalar>{{0}, first, packed ? kPanel : rest});
    }
  }
}

// The limits of the activations' inputs; 0 stands for none.
template <class P, class V>
SOFIE_INLINE inline V clip(V x) {
  if constexpr (P::clip > 0.f) {
    return min(max(x, -P::clip), P::clip);
  } else {
    return x;
  }
}

// One direction with N columns of weights: times and strides of the operands.
template <class P, std::size_t N, class T>
struct Recurrence {
  std::size_t seq, batch;
  const std::int32_t* lens;
  T *projected, *sums, *h, *extra;    // the parts of the workspace
  std::size_t time_step, batch_step;  // of projected
  bool begun;                         // whether the states are not all zero

  std::size_t length(std::size_t b) const {
    return lens == nullptr ? seq : static_cast<std::size_t>(lens[b]);
  }
  // The time that batch entry b sees in a step, for step < length(b). The reverse direction starts at the end
  // of the valid part.
  std::size_t time(std::size_t step, std::size_t b) const { return P::reverse ? length(b) - 1 - step : step; }
  const T* projection(std::size_t step, std::size_t b) const {
    return projected + time(step, b) * time_step + b * batch_step;
  }

  Recurrence(std::size_t seq_, std::size_t batch_, const std::int32_t* lens_, const T* h0, T* workspace)
      : seq(seq_), batch(batch_), lens(lens_), projected(workspace), begun(h0 != nullptr) {
    for (std::size_t b = 0; lens != nullptr && b < batch; ++b) {
      if (lens[b] < 0 || static_cast<std::size_t>(lens[b]) > seq) {
        throw std::out_of_range("a sequence of " + std::to_string(lens[b]) + " steps in one of " +
                                std::to_string(seq));
      }
    }
    sums = projected + seq * batch * N;
    h = sums + batch * N;
    extra = h + batch * P::H;
    start(batch * P::H, h0, h);
  }

  // projected = x W + bias for all times.
  SOFIE_INLINE void project(const T* x, std::size_t x_time, std::size_t x_batch, const T* w, const T* bias) {
    const fixed<N> n;
    const fixed<P::I> k;
    const auto add = [&](auto acc, std::size_t, auto j) SOFIE_INLINE { return acc + load(bias, j); };
    if (batch == 1 || x_time == batch * x_batch) {  // time major: the rows are equally spaced
      time_step = batch * n;
      batch_step = n;
      gemm(seq * batch, n, k, x, batch == 1 ? x_time : x_batch, w, projected, n, add);
    } else {
      time_step = n;
      batch_step = seq * n;
      for (std::size_t b = 0; b < batch; ++b) {
        gemm(seq, n, k, x + b * x_batch, x_time, w, projected + b * batch_step, n, add);
      }
    }
  }

  // For all entries b: the columns from `first` on of sums = (fixed_start or, if that is null, the
  // projection)
  // + state R. The sums of entries that have ended are not read.
  template <std::size_t First, std::size_t Columns>
  SOFIE_INLINE void multiply(std::size_t step, const T* states, const T* r, const T* fixed_start) const {
    const T* start[kStateBlock];
    for (std::size_t b = 0; b < batch; b += kStateBlock) {
      const std::size_t rows = batch - b < kStateBlock ? batch - b : kStateBlock;
      for (std::size_t i = 0; i < rows; ++i) {
        start[i] = fixed_start != nullptr ? fixed_start
                   : step < length(b + i) ? projection(step, b + i) + First
                                          : projected;
      }
      state_product<Columns, P::H, N * P::H * sizeof(T)>(rows, begun ? P::H : 0, step % 2 != 0,
                                                         states + b * P::H, r, start,
                                                         sums + batch * First + b * Columns);
    }
  }

  static void start(std::size_t n, const T* from, T* to) {
    for (std::size_t i = 0; i < n; ++i) to[i] = from != nullptr ? from[i] : T(0);
  }

  // Zeros behind the valid part, and the last state.
  void finish(T* y, std::size_t y_time, std::size_t y_batch, T* y_h) const {
    for (std::size_t b = 0; b < batch; ++b) {
      for (std::size_t t = length(b); y != nullptr && t < seq; ++t) {
        for (std::size_t i = 0; i < P::H; ++i) y[t * y_time + b * y_batch + i] = T(0);
      }
    }
    if (y_h != nullptr) start(batch * P::H, h, y_h);
  }
};

}  // namespace detail

// All three functions take, beside what is said at each:
//   P          static constexpr members: std::size_t I, H; bool reverse; float clip (0: none); activations f,
//              g (, h)
//   seq, batch extents
//   x          input, x[t * x_time + b * x_batch + i]
//   lens       null, or the number of valid steps of each batch entry; later ones give Y = 0, the state stays
//   w          W^T [I][N]: N = gate_columns(G, H) columns in the order of detail::each_unit, packed for gemm
//   r          R^T [H][N], its columns in the same order, packed in Strips
//   bias       [N]: Wb + Rb in the same order, never null
//   h0         initial state [batch][H], or null for 0
//   y          null, or all states: y[t * y_time + b * y_batch + i]
//   y_h        null, or the last state [batch][H]
//   workspace  recurrent_workspace(N, seq, batch, H) elements

/// h' = f(x W + h R + bias). G = 1.
template <class P, class T>
void rnn_direction(std::size_t seq, std::size_t batch, const T* x, std::size_t x_time, std::size_t x_batch,
                   const std::int32_t* lens, const same<T>* w, const same<T>* r, const same<T>* bias,
                   const same<T>* h0, same<T>* y, std::size_t y_time, std::size_t y_batch, same<T>* y_h,
                   same<T>* workspace) {
  constexpr std::size_t N = gate_columns(1, P::H);
  detail::Recurrence<P, N, T> s(seq, batch, lens, h0, workspace);
  s.project(x, x_time, x_batch, w, bias);
  for (std::size_t step = 0; step < seq; ++step, s.begun = true) {
    s.template multiply<0, N>(step, s.h, r, nullptr);
    for (std::size_t b = 0; b < batch; ++b) {
      if (step >= s.length(b)) continue;
      const T* q = s.sums + b * N;
      T* h = s.h + b * P::H;
      T* out = y == nullptr ? nullptr : y + s.time(step, b) * y_time + b * y_batch;
      detail::each_unit<T, 1, P::H>([&](auto j, auto gate) SOFIE_INLINE {
        const auto v = P::f(detail::clip<P>(gate(q, 0)));
        store(h, j, v);
        if (out != nullptr) store(out, j, v);
      });
    }
  }
  s.finish(y, y_time, y_batch, y_h);
}

/// Gates z, r, h: z = f(.), r = f(.), n = g(.), h' = (1 - z) n + z h. G = 3.
///
/// P also has bool linear_before_reset. If it is true, bias is [2][N]: Wb, then Rb. Otherwise the columns are
/// in two parts, those of z and r and then those of h, and r is packed part by part.
template <class P, class T>
void gru_direction(std::size_t seq, std::size_t batch, const T* x, std::size_t x_time, std::size_t x_batch,
                   const std::int32_t* lens, const same<T>* w, const same<T>* r, const same<T>* bias,
                   const same<T>* h0, same<T>* y, std::size_t y_time, std::size_t y_batch, same<T>* y_h,
                   same<T>* workspace) {
  constexpr std::size_t two = gate_columns(2, P::H), one = gate_columns(1, P::H);
  constexpr std::size_t N = P::linear_before_reset ? gate_columns(3, P::H) : two + one;
  detail::Recurrence<P, N, T> s(seq, batch, lens, h0, workspace);
  s.project(x, x_time, x_batch, w, bias);
  for (std::size_t step = 0; step < seq; ++step, s.begun = true) {
    if constexpr (P::linear_before_reset) {
      s.template multiply<0, N>(step, s.h, r, bias + N);
    } else {
      s.template multiply<0, two>(step, s.h, r, nullptr);
      for (std::size_t b = 0; b < batch; ++b) {
        T *q = s.sums + b * two, *reset_h = s.extra + b * P::H;
        const T* h = s.h + b * P::H;
        detail::each_unit<T, 2, P::H>([&](auto j, auto gate) SOFIE_INLINE {
          store(reset_h, j, P::f(detail::clip<P>(gate(q, 1))) * load(h, j));
        });
      }
      s.template multiply<two, one>(step, s.extra, r + two * P::H, nullptr);
    }
    for (std::size_t b = 0; b < batch; ++b) {
      if (step >= s.length(b)) continue;
      T* h = s.h + b * P::H;
      T* out = y == nullptr ? nullptr : y + s.time(step, b) * y_time + b * y_batch;
      const auto finish = [&](auto j, auto z, auto n) SOFIE_INLINE {
        const auto v = fma(z, load(h, j) - n, n);
        store(h, j, v);
        if (out != nullptr) store(out, j, v);
      };
      if constexpr (P::linear_before_reset) {
        const T *p = s.projection(step, b), *q = s.sums + b * N;
        detail::each_unit<T, 3, P::H>([&](auto j, auto gate) SOFIE_INLINE {
          const auto z = P::f(detail::clip<P>(gate(p, 0) + gate(q, 0)));
          const auto reset = P::f(detail::clip<P>(gate(p, 1) + gate(q, 1)));
          finish(j, z, P::g(detail::clip<P>(fma(reset, gate(q, 2), gate(p, 2)))));
        });
      } else {
        const T *q = s.sums + b * two, *candidate = s.sums + batch * two + b * one;
        detail::each_unit<T, 2, P::H>([&](auto j, auto gate) SOFIE_INLINE {
          finish(j, P::f(detail::clip<P>(gate(q, 0))), P::g(detail::clip<P>(load(candidate, j))));
        });
      }
    }
  }
  s.finish(y, y_time, y_batch, y_h);
}

/// Gates i, o, f, c: c' = f c + i g(.), h' = o h(c'). G = 4.
///
/// P also has bool input_forget (f = 1 - i) and bool peepholes.
/// @param peephole [3*H] in the order i, o, f; read if P::peepholes.
/// @param c0 initial cell state [batch][H], or null for 0.
/// @param y_c null, or the last cell state [batch][H].
template <class P, class T>
void lstm_direction(std::size_t seq, std::size_t batch, const T* x, std::size_t x_time, std::size_t x_batch,
                    const std::int32_t* lens, const same<T>* w, const same<T>* r, const same<T>* bias,
                    const same<T>* peephole, const same<T>* h0, const same<T>* c0, same<T>* y,
                    std::size_t y_time, std::size_t y_batch, same<T>* y_h, same<T>* y_c, same<T>* workspace) {
  constexpr std::size_t N = gate_columns(4, P::H);
  detail::Recurrence<P, N, T> s(seq, batch, lens, h0, workspace);
  s.project(x, x_time, x_batch, w, bias);
  T* const cells = s.extra;
  s.start(batch * P::H, c0, cells);
  for (std::size_t step = 0; step < seq; ++step, s.begun = true) {
    s.template multiply<0, N>(step, s.h, r, nullptr);
    for (std::size_t b = 0; b < batch; ++b) {
      if (step >= s.length(b)) continue;
      const T* q = s.sums + b * N;
      T *h = s.h + b * P::H, *cell = cells + b * P::H;
      T* out = y == nullptr ? nullptr : y + s.time(step, b) * y_time + b * y_batch;
      detail::each_unit<T, 4, P::H>([&](auto j, auto gate) SOFIE_INLINE {
        // The input of a gate, whose peephole (all but the candidate have one) sees the state c.
        const auto input = [&](std::size_t number, auto c) SOFIE_INLINE {
          auto v = gate(q, number);
          if constexpr (P::peepholes) v = fma(load(peephole + number * P::H, j), c, v);
          return detail::clip<P>(v);
        };
        const auto old = load(cell, j);
        const auto i = P::f(input(0, old));
        const auto n = P::g(detail::clip<P>(gate(q, 3)));
        auto c = i * n;
        if constexpr (P::input_forget) {
          c = fma(T(1) - i, old, c);
        } else {
          c = fma(P::f(input(2, old)), old, c);
        }
        const auto v = P::f(input(1, c)) * P::h(c);
        store(cell, j, c);
        store(h, j, v);
        if (out != nullptr) store(out, j, v);
      });
    }
  }
  s.finish(y, y_time, y_batch, y_h);
  if (y_c != nullptr) s.start(batch * P::H, cells, y_c);
}

}  // namespace SOFIE_ISA
}  // namespace sofie
