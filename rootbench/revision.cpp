// What rootbench/revisions.py compiles with a generated header in front: a Session behind a C interface.
// `model` is the header's namespace. SPDX-License-Identifier: BSD-3-Clause
#include <cstring>
#include <memory>

namespace {

using Session = model::Session;
template <std::size_t k>
using Input = std::tuple_element_t<k, Session::Inputs>;
template <std::size_t k>
using Output = std::tuple_element_t<k, Session::Outputs>;

/// Where an output goes: the caller's memory, or a vector where only the run tells the size.
template <class Output, bool dynamic = Output::dynamic>
struct Target {
  typename Output::type* data;
  explicit Target(void* memory) : data(static_cast<typename Output::type*>(memory)) {}
  typename Output::type* get() { return data; }
  void copy_back() {}
};
template <class Output>
struct Target<Output, true> {
  std::vector<typename Output::type> values;
  void* memory;
  explicit Target(void* where) : memory(where) {}
  std::vector<typename Output::type>& get() { return values; }
  void copy_back() {
    if (!values.empty()) std::memcpy(memory, values.data(), values.size() * sizeof(values[0]));
  }
};

template <class Symbols, class Inputs, class Outputs>
struct Bound;

template <std::size_t... s, std::size_t... i, std::size_t... o>
struct Bound<std::index_sequence<s...>, std::index_sequence<i...>, std::index_sequence<o...>> {
  std::unique_ptr<Session> session;
  const std::size_t* dims;
  void* const* in;
  std::tuple<Target<Output<o>>...> out;

  Bound(const char* weights, const std::size_t* sizes, void* const* inputs, void* const* outputs)
      : dims(sizes), in(inputs), out(outputs[o]...) {
    if constexpr (std::is_constructible<Session, std::string>::value) {
      session.reset(new Session(weights));
    } else {
      session.reset(new Session);
    }
  }
  void run() {
    session->infer_to(dims[s]..., static_cast<const typename Input<i>::type*>(in[i])...,
                      std::get<o>(out).get()...);
    (std::get<o>(out).copy_back(), ...);
  }
};

using Model = Bound<std::make_index_sequence<Session::kSymbols>,
                    std::make_index_sequence<std::tuple_size<Session::Inputs>::value>,
                    std::make_index_sequence<std::tuple_size<Session::Outputs>::value>>;

template <std::size_t... k>
std::int64_t axis_of(std::size_t input, std::size_t axis, std::index_sequence<k...>) {
  std::int64_t code = 0;
  ((k == input && axis < Input<k>::rank ? void(code = Input<k>::shape[axis]) : void()), ...);
  return code;
}

}  // namespace

#define ROOTBENCH_EXPORT extern "C" __attribute__((visibility("default")))

ROOTBENCH_EXPORT int symbol_count() { return static_cast<int>(Session::kSymbols); }
ROOTBENCH_EXPORT const char* symbol_name(int k) { return Session::kSymbolNames[k]; }
ROOTBENCH_EXPORT std::int64_t input_axis(std::size_t input, std::size_t axis) {
  return axis_of(input, axis, std::make_index_sequence<std::tuple_size<Session::Inputs>::value>());
}

ROOTBENCH_EXPORT void* open_session(const char* weights, const std::size_t* dims, void* const* in,
                                    void* const* out) {
  try {
    return new Model(weights, dims, in, out);
  } catch (const std::exception&) {
    return nullptr;
  }
}

ROOTBENCH_EXPORT int run(void* context) {
  try {
    static_cast<Model*>(context)->run();
    return 0;
  } catch (const std::exception&) {
    return 1;
  }
}
