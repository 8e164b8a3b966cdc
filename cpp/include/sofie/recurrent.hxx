// ONNX RNN, GRU and LSTM, one direction per call.
//
// The products of all time steps with the input weights are one gemm; a step then multiplies the hidden state
// with the recurrent weights and applies the gates vector by vector.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "gemm.hxx"
#include "math.hxx"
#include "simd.hxx"

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

/// Elements of workspace of a direction: gates is 1 (RNN), 3 (GRU) or 4 (LSTM).
constexpr std::size_t recurrent_workspace(std::size_t gates, std::size_t seq, std::size_t batch,
                                          std::size_t hidden) {
  return seq * batch * gates * hidden + batch * (gates + 3) * hidden;
}

namespace detail {

// map with vectors for float, with scalars for other types.
template <class T, class N, class F>
SOFIE_INLINE inline void map_typed(N n, F&& body) {
  if constexpr (std::is_same<T, float>::value) {
    map(n, body);
  } else {
    for (std::size_t i = 0; i < n; ++i) body(Scalar{i});
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

// One direction: G gates, times and strides of the operands.
template <class P, std::size_t G, class T>
struct Recurrence {
  std::size_t seq, batch;
  const std::int32_t* lens;
  T *projected, *gates, *h, *extra;   // the parts of the workspace
  std::size_t time_step, batch_step;  // of projected

  std::size_t length(std::size_t b) const {
    if (lens == nullptr) return seq;
    const std::size_t n = lens[b] > 0 ? static_cast<std::size_t>(lens[b]) : 0;
    return n < seq ? n : seq;
  }
  // The time that batch entry b sees in a step, for step < length(b). The reverse direction starts at the end
  // of the valid part.
  std::size_t time(std::size_t step, std::size_t b) const { return P::reverse ? length(b) - 1 - step : step; }
  const T* projection(std::size_t step, std::size_t b) const {
    return projected + time(step, b) * time_step + b * batch_step;
  }

  Recurrence(std::size_t seq_, std::size_t batch_, const std::int32_t* lens_, T* workspace)
      : seq(seq_), batch(batch_), lens(lens_), projected(workspace) {
    gates = projected + seq * batch * G * P::H;
    h = gates + batch * G * P::H;
    extra = h + batch * P::H;
  }

  // projected = x W + bias for all times.
  template <class Bias>
  SOFIE_INLINE void project(const T* x, std::size_t x_time, std::size_t x_batch, const T* w, Bias bias) {
    const fixed<G * P::H> n;
    const fixed<P::I> k;
    const auto add = [&](auto acc, std::size_t, auto j) SOFIE_INLINE { return acc + bias(j); };
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
//   g (, h) seq, batch extents x          input, x[t * x_time + b * x_batch + i] lens       null, or the
//   number of valid steps of each batch entry. Later ones give Y = 0; the state stays. w, r       W^T
//   [I][G*H] and R^T [H][G*H] packed like the right-hand side of gemm bias       [2*G*H]: Wb then Rb, never
//   null h0         initial state [batch][H], or null for 0 y          null, or all states: y[t * y_time + b
//   * y_batch + i] y_h        null, or the last state [batch][H] workspace  recurrent_workspace(G, seq,
//   batch, H) elements

/// h' = f(x W + h R + bias). G = 1.
template <class P, class T>
void rnn_direction(std::size_t seq, std::size_t batch, const T* x, std::size_t x_time, std::size_t x_batch,
                   const std::int32_t* lens, const same<T>* w, const same<T>* r, const same<T>* bias,
                   const same<T>* h0, same<T>* y, std::size_t y_time, std::size_t y_batch, same<T>* y_h,
                   same<T>* workspace) {
  constexpr fixed<P::H> H;
  detail::Recurrence<P, 1, T> s(seq, batch, lens, workspace);
  s.project(x, x_time, x_batch, w, [&](auto j) SOFIE_INLINE { return load(bias, j) + load(bias + P::H, j); });
  s.start(batch * P::H, h0, s.h);
  for (std::size_t step = 0; step < seq; ++step) {
    gemm(batch, H, H, s.h, P::H, r, s.gates, P::H,
         [](auto acc, std::size_t, auto) SOFIE_INLINE { return acc; });
    for (std::size_t b = 0; b < batch; ++b) {
      if (step >= s.length(b)) continue;
      const T *p = s.projection(step, b), *q = s.gates + b * P::H;
      T* h = s.h + b * P::H;
      detail::map_typed<T>(H, [&](auto j) SOFIE_INLINE {
        const auto v = P::f(detail::clip<P>(load(p, j) + load(q, j)));
        store(h, j, v);
        if (y != nullptr) store(y + s.time(step, b) * y_time + b * y_batch, j, v);
      });
    }
  }
  s.finish(y, y_time, y_batch, y_h);
}

/// Gates z, r, h: z = f(.), r = f(.), n = g(.), h' = (1 - z) n + z h. G = 3.
/// P also has bool linear_before_reset. If it is false, r is packed in two parts, one behind the other: R^T
/// of z and r as [H][2*H], that of h as [H][H].
template <class P, class T>
void gru_direction(std::size_t seq, std::size_t batch, const T* x, std::size_t x_time, std::size_t x_batch,
                   const std::int32_t* lens, const same<T>* w, const same<T>* r, const same<T>* bias,
                   const same<T>* h0, same<T>* y, std::size_t y_time, std::size_t y_batch, same<T>* y_h,
                   same<T>* workspace) {
  constexpr fixed<P::H> H;
  detail::Recurrence<P, 3, T> s(seq, batch, lens, workspace);
  // With linear_before_reset the bias Rb of h is inside the product with the reset gate.
  s.project(x, x_time, x_batch, w, [&](auto j) SOFIE_INLINE {
    if constexpr (P::linear_before_reset) {
      return load(bias, j);
    } else {
      return load(bias, j) + load(bias + 3 * P::H, j);
    }
  });
  s.start(batch * P::H, h0, s.h);
  const auto plain = [](auto acc, std::size_t, auto) SOFIE_INLINE { return acc; };
  for (std::size_t step = 0; step < seq; ++step) {
    if constexpr (P::linear_before_reset) {
      gemm(batch, fixed<3 * P::H>{}, H, s.h, P::H, r, s.gates, 3 * P::H,
           [&](auto acc, std::size_t, auto j) SOFIE_INLINE { return acc + load(bias + 3 * P::H, j); });
      for (std::size_t b = 0; b < batch; ++b) {
        if (step >= s.length(b)) continue;
        const T *p = s.projection(step, b), *q = s.gates + b * 3 * P::H;
        T* h = s.h + b * P::H;
        detail::map_typed<T>(H, [&](auto j) SOFIE_INLINE {
          const auto z = P::f(detail::clip<P>(load(p, j) + load(q, j)));
          const auto reset = P::f(detail::clip<P>(load(p + P::H, j) + load(q + P::H, j)));
          const auto n = P::g(detail::clip<P>(fma(reset, load(q + 2 * P::H, j), load(p + 2 * P::H, j))));
          const auto v = fma(z, load(h, j) - n, n);
          store(h, j, v);
          if (y != nullptr) store(y + s.time(step, b) * y_time + b * y_batch, j, v);
        });
      }
    } else {
      gemm(batch, fixed<2 * P::H>{}, H, s.h, P::H, r, s.gates, 2 * P::H, plain);
      T *const reset_h = s.extra, *const candidate = s.extra + batch * P::H;
      for (std::size_t b = 0; b < batch; ++b) {
        const bool valid = step < s.length(b);
        const T* p = s.projection(valid ? step : 0, valid ? b : 0);
        T* q = s.gates + b * 2 * P::H;
        const T* h = s.h + b * P::H;
        detail::map_typed<T>(H, [&](auto j) SOFIE_INLINE {
          store(q, j, P::f(detail::clip<P>(load(p, j) + load(q, j))));
          const auto reset = P::f(detail::clip<P>(load(p + P::H, j) + load(q + P::H, j)));
          store(reset_h + b * P::H, j, reset * load(h, j));
        });
      }
      gemm(batch, H, H, reset_h, P::H, r + packed_size(2 * P::H, P::H), candidate, P::H, plain);
      for (std::size_t b = 0; b < batch; ++b) {
        if (step >= s.length(b)) continue;
        const T *p = s.projection(step, b) + 2 * P::H, *q = s.gates + b * 2 * P::H, *a = candidate + b * P::H;
        T* h = s.h + b * P::H;
        detail::map_typed<T>(H, [&](auto j) SOFIE_INLINE {
          const auto n = P::g(detail::clip<P>(load(p, j) + load(a, j)));
          const auto v = fma(load(q, j), load(h, j) - n, n);
          store(h, j, v);
          if (y != nullptr) store(y + s.time(step, b) * y_time + b * y_batch, j, v);
        });
      }
    }
  }
  s.finish(y, y_time, y_batch, y_h);
}

/// Gates i, o, f, c: c' = f c + i g(.), h' = o h(c'). G = 4.
/// P also has bool input_forget (f = 1 - i) and bool peepholes.
/// @param peephole [3*H] in the order i, o, f; read if P::peepholes.
/// @param c0 initial cell state [batch][H], or null for 0.
/// @param y_c null, or the last cell state [batch][H].
template <class P, class T>
void lstm_direction(std::size_t seq, std::size_t batch, const T* x, std::size_t x_time, std::size_t x_batch,
                    const std::int32_t* lens, const same<T>* w, const same<T>* r, const same<T>* bias,
                    const same<T>* peephole, const same<T>* h0, const same<T>* c0, same<T>* y,
                    std::size_t y_time, std::size_t y_batch, same<T>* y_h, same<T>* y_c, same<T>* workspace) {
  constexpr fixed<P::H> H;
  detail::Recurrence<P, 4, T> s(seq, batch, lens, workspace);
  s.project(x, x_time, x_batch, w,
            [&](auto j) SOFIE_INLINE { return load(bias, j) + load(bias + 4 * P::H, j); });
  s.start(batch * P::H, h0, s.h);
  T* const cells = s.extra;
  s.start(batch * P::H, c0, cells);
  for (std::size_t step = 0; step < seq; ++step) {
    gemm(batch, fixed<4 * P::H>{}, H, s.h, P::H, r, s.gates, 4 * P::H,
         [](auto acc, std::size_t, auto) SOFIE_INLINE { return acc; });
    for (std::size_t b = 0; b < batch; ++b) {
      if (step >= s.length(b)) continue;
      const T *p = s.projection(step, b), *q = s.gates + b * 4 * P::H;
      T *h = s.h + b * P::H, *cell = cells + b * P::H;
      detail::map_typed<T>(H, [&](auto j) SOFIE_INLINE {
        // Input of gate number `gate`, whose peephole (if it has one) sees the state c.
        const auto gate = [&](std::size_t number, std::size_t peep, auto c) SOFIE_INLINE {
          auto v = load(p + number * P::H, j) + load(q + number * P::H, j);
          if constexpr (P::peepholes) {
            if (peep < 3) v = fma(load(peephole + (peep < 3 ? peep : 0) * P::H, j), c, v);
          }
          return detail::clip<P>(v);
        };
        const auto old = load(cell, j);
        const auto i = P::f(gate(0, 0, old));
        const auto n = P::g(gate(3, 3, old));
        auto c = i * n;
        if constexpr (P::input_forget) {
          c = fma(T(1) - i, old, c);
        } else {
          c = fma(P::f(gate(2, 2, old)), old, c);
        }
        const auto v = P::f(gate(1, 1, c)) * P::h(c);
        store(cell, j, c);
        store(h, j, v);
        if (y != nullptr) store(y + s.time(step, b) * y_time + b * y_batch, j, v);
      });
    }
  }
  s.finish(y, y_time, y_batch, y_h);
  if (y_c != nullptr) s.start(batch * P::H, cells, y_c);
}

}  // namespace SOFIE_ISA
}  // namespace sofie
