// Calls any generated Session with memory that it owns, from the description that the Session carries.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace harness {

/// Memory of one output: a vector that infer_to sizes, or room for any output of the tests.
template <class Port>
struct Output {
  using Element = std::conditional_t<std::is_same<typename Port::type, bool>::value, std::uint8_t,
                                     typename Port::type>;
  std::vector<Element> data = std::vector<Element>(Port::dynamic ? 0 : kRoom);
  static constexpr std::size_t kRoom = 1 << 16;

  decltype(auto) argument() {
    if constexpr (Port::dynamic) {
      return (data);
    } else {
      return reinterpret_cast<typename Port::type*>(data.data());
    }
  }
};

template <class Ports>
struct Outputs;
template <class... Port>
struct Outputs<std::tuple<Port...>> {
  std::tuple<Output<Port>...> slots;
};

/// A Session with its inputs and outputs.
template <class Session>
class Caller {
 public:
  using Dims = std::array<std::size_t, Session::kSymbols>;

  template <class... Arguments>
  explicit Caller(Arguments&&... arguments) : session(std::forward<Arguments>(arguments)...) {
    fill(std::make_index_sequence<kInputs>{});
  }

  void operator()(const Dims& dims) {
    call(dims, std::make_index_sequence<Session::kSymbols>{}, std::make_index_sequence<kInputs>{},
         std::make_index_sequence<kOutputs>{});
  }

  /// The bytes of all outputs of the last call.
  std::vector<unsigned char> result() const {
    std::vector<unsigned char> bytes;
    append(bytes, std::make_index_sequence<kOutputs>{});
    return bytes;
  }

  Session session;

 private:
  static constexpr std::size_t kInputs = std::tuple_size<typename Session::Inputs>::value;
  static constexpr std::size_t kOutputs = std::tuple_size<typename Session::Outputs>::value;

  template <std::size_t... I>
  void fill(std::index_sequence<I...>) {
    const auto one = [](std::vector<unsigned char>& bytes, auto zero) {
      using T = decltype(zero);
      bytes.resize(Output<typename Session::Output0>::kRoom * sizeof(T));
      for (std::size_t i = 0; i < bytes.size() / sizeof(T); ++i) {
        const std::size_t n = i * 7919 % 1009;
        const T x = std::is_floating_point<T>::value ? T(float(n) / 1009.f - 0.5f) : T(n % 5 + 3);
        std::memcpy(bytes.data() + i * sizeof(T), &x, sizeof(T));
      }
    };
    (one(inputs_[I], typename std::tuple_element_t<I, typename Session::Inputs>::type{}), ...);
  }

  template <std::size_t... D, std::size_t... I, std::size_t... O>
  void call(const Dims& dims, std::index_sequence<D...>, std::index_sequence<I...>,
            std::index_sequence<O...>) {
    static_cast<void>(dims);
    session.infer_to(
        dims[D]...,
        reinterpret_cast<const typename std::tuple_element_t<I, typename Session::Inputs>::type*>(
            inputs_[I].data())...,
        std::get<O>(outputs_.slots).argument()...);
  }

  template <std::size_t... O>
  void append(std::vector<unsigned char>& bytes, std::index_sequence<O...>) const {
    const auto one = [&](const auto& data, const std::vector<std::size_t>& shape) {
      std::size_t count = sizeof data[0];
      for (const std::size_t d : shape) count *= d;
      const auto* begin = reinterpret_cast<const unsigned char*>(data.data());
      bytes.insert(bytes.end(), begin, begin + count);
    };
    (one(std::get<O>(outputs_.slots).data, session.output_shape(O)), ...);
  }

  std::array<std::vector<unsigned char>, kInputs> inputs_;
  Outputs<typename Session::Outputs> outputs_;
};

}  // namespace harness
