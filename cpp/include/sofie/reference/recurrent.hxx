// One direction of a recurrent network: RNN, GRU and LSTM cells as ONNX writes their formulas.
//
// x[seq][batch][inputs]; w[gates][hidden][inputs] and r[gates][hidden][hidden] gate by gate; bias[2][gates]
// [hidden], that of the inputs first, or nullptr; lengths[batch] valid steps of each sequence, or nullptr;
// initial states [batch][hidden], or nullptr. The states of all steps go to y[seq][batch][hidden]
// (y[batch][seq][hidden] if P::batch_first), zero behind the end of a sequence, the last ones to y_h and y_c
// [batch][hidden]. P::reverse: time runs backwards. P::clip limits the inputs of f and g; 0 does not.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "math.hxx"

namespace sofie::reference {
inline namespace SOFIE_ISA {

// The activations by their names in ONNX.
struct Sigmoid {
  template <class T>
  T operator()(T x) const {
    return sigmoid(x);
  }
};
struct Tanh {
  template <class T>
  T operator()(T x) const {
    return std::tanh(x);
  }
};
struct Relu {
  template <class T>
  T operator()(T x) const {
    return relu(x);
  }
};
struct Affine {
  float alpha, beta;
  template <class T>
  T operator()(T x) const {
    return T(alpha) * x + T(beta);
  }
};
struct LeakyRelu {
  float alpha;
  template <class T>
  T operator()(T x) const {
    return x < T(0) ? T(alpha) * x : x;
  }
};
struct ThresholdedRelu {
  float alpha;
  template <class T>
  T operator()(T x) const {
    return x > T(alpha) ? x : T(0);
  }
};
struct ScaledTanh {
  float alpha, beta;
  template <class T>
  T operator()(T x) const {
    return T(alpha) * std::tanh(T(beta) * x);
  }
};
struct HardSigmoid {
  float alpha, beta;
  template <class T>
  T operator()(T x) const {
    return min(max(T(alpha) * x + T(beta), T(0)), T(1));
  }
};
struct Elu {
  float alpha;
  template <class T>
  T operator()(T x) const {
    return x < T(0) ? T(alpha) * std::expm1(x) : x;
  }
};
struct Softsign {
  template <class T>
  T operator()(T x) const {
    return softsign(x);
  }
};
struct Softplus {
  template <class T>
  T operator()(T x) const {
    return softplus(x);
  }
};

/// What all cells read; see the top of this file.
template <class T>
struct Sequences {
  std::size_t seq, batch, inputs, hidden;
  const T *x, *w, *r, *bias;
  const std::int32_t* lengths;
  const T* initial_h;
  T *y, *y_h;
};

namespace cell {
/// Row `gate` of x w + bias for one step.
template <class T>
T input_sum(const Sequences<T>& s, const T* x, std::size_t gate) {
  double sum = s.bias ? static_cast<double>(s.bias[gate]) : 0;
  for (std::size_t k = 0; k < s.inputs; ++k) {
    sum += static_cast<double>(x[k]) * static_cast<double>(s.w[gate * s.inputs + k]);
  }
  return static_cast<T>(sum);
}
/// Row `gate` of h r + bias.
template <class T>
T state_sum(const Sequences<T>& s, std::size_t gates, const T* h, std::size_t gate) {
  double sum = s.bias ? static_cast<double>(s.bias[gates * s.hidden + gate]) : 0;
  for (std::size_t k = 0; k < s.hidden; ++k) {
    sum += static_cast<double>(h[k]) * static_cast<double>(s.r[gate * s.hidden + k]);
  }
  return static_cast<T>(sum);
}
/// The input of an activation within its limits.
template <class P, class T>
T clipped(T x) {
  return P::clip > 0.f ? min(max(x, T(-P::clip)), T(P::clip)) : x;
}

/// Calls step(x, h, b) for each sequence b and each of its steps; h is its state, which the step changes.
template <class P, class T, class F>
void each_step(const Sequences<T>& s, F step) {
  for (std::size_t b = 0; b < s.batch; ++b) {
    T* h = s.y_h + b * s.hidden;
    for (std::size_t k = 0; k < s.hidden; ++k) h[k] = s.initial_h ? s.initial_h[b * s.hidden + k] : T(0);
    const auto length =
        s.lengths ? static_cast<std::int64_t>(s.lengths[b]) : static_cast<std::int64_t>(s.seq);
    if (length < 0 || length > static_cast<std::int64_t>(s.seq)) {
      throw std::out_of_range("a sequence of " + std::to_string(length) + " of " + std::to_string(s.seq) +
                              " steps");
    }
    for (std::size_t now = 0; now < s.seq; ++now) {
      const bool valid = now < static_cast<std::size_t>(length);
      const std::size_t t = valid && P::reverse ? static_cast<std::size_t>(length) - 1 - now : now;
      if (valid) step(s.x + (t * s.batch + b) * s.inputs, h, b);
      T* y = s.y + (P::batch_first ? b * s.seq + t : t * s.batch + b) * s.hidden;
      for (std::size_t k = 0; k < s.hidden; ++k) y[k] = valid ? h[k] : T(0);
    }
  }
}
}  // namespace cell

/// h' = f(x w + h r + bias). @param next hidden elements.
template <class P, class T>
void rnn(const Sequences<T>& s, T* next) {
  cell::each_step<P>(s, [&](const T* x, T* h, std::size_t) {
    for (std::size_t k = 0; k < s.hidden; ++k) {
      next[k] = P::f(cell::clipped<P>(cell::input_sum(s, x, k) + cell::state_sum(s, 1, h, k)));
    }
    for (std::size_t k = 0; k < s.hidden; ++k) h[k] = next[k];
  });
}

/// Gates z, r and h: h' = (1 - z) g(.) + z h; with P::linear_before_reset the gate r multiplies h r + bias,
/// not h.
/// @param next 3 * hidden elements.
template <class P, class T>
void gru(const Sequences<T>& s, T* next) {
  const std::size_t n = s.hidden;
  T *reset = next + n, *kept = reset + n;
  cell::each_step<P>(s, [&](const T* x, T* h, std::size_t) {
    for (std::size_t k = 0; k < n; ++k) {
      reset[k] = P::f(cell::clipped<P>(cell::input_sum(s, x, n + k) + cell::state_sum(s, 3, h, n + k)));
    }
    for (std::size_t k = 0; k < n; ++k) kept[k] = reset[k] * h[k];
    for (std::size_t k = 0; k < n; ++k) {
      const T z = P::f(cell::clipped<P>(cell::input_sum(s, x, k) + cell::state_sum(s, 3, h, k)));
      const T inner = P::linear_before_reset ? reset[k] * cell::state_sum(s, 3, h, 2 * n + k)
                                             : cell::state_sum(s, 3, kept, 2 * n + k);
      const T candidate = P::g(cell::clipped<P>(cell::input_sum(s, x, 2 * n + k) + inner));
      next[k] = (T(1) - z) * candidate + z * h[k];
    }
    for (std::size_t k = 0; k < n; ++k) h[k] = next[k];
  });
}

/// Gates i, o, f and c: c' = f c + i g(.), h' = o h(c'); with P::input_forget the gate f is 1 - i.
/// @param initial_c [batch][hidden], or nullptr; @param peepholes [3][hidden] for i, o and f, or nullptr.
/// @param next hidden elements.
template <class P, class T>
void lstm(const Sequences<T>& s, const same<T>* initial_c, const same<T>* peepholes, T* y_c, T* next) {
  const std::size_t n = s.hidden;
  for (std::size_t k = 0; k < s.batch * n; ++k) y_c[k] = initial_c ? initial_c[k] : T(0);
  cell::each_step<P>(s, [&](const T* x, T* h, std::size_t b) {
    for (std::size_t k = 0; k < n; ++k) {
      T& c = y_c[b * n + k];
      const auto sum = [&](std::size_t gate) {
        return cell::input_sum(s, x, gate * n + k) + cell::state_sum(s, 4, h, gate * n + k);
      };
      const auto peep = [&](std::size_t gate) { return peepholes ? peepholes[gate * n + k] * c : T(0); };
      const T i = P::f(cell::clipped<P>(sum(0) + peep(0)));
      const T forget = P::input_forget ? T(1) - i : P::f(cell::clipped<P>(sum(2) + peep(2)));
      const T candidate = P::g(cell::clipped<P>(sum(3)));
      c = forget * c + i * candidate;
      const T o = P::f(cell::clipped<P>(sum(1) + peep(1)));
      next[k] = o * P::h(c);
    }
    for (std::size_t k = 0; k < n; ++k) h[k] = next[k];
  });
}

}  // namespace SOFIE_ISA
}  // namespace sofie::reference
