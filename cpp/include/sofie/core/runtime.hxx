// Calls a generated Session without knowing its type: what Python (through ctypes) and SofieFunctor need.
//
// A generated Session describes itself (Inputs, Outputs, kSymbols, kSymbolNames). From that description this
// header makes one table of plain C functions and data, Api, which is the same whether the Session was
// compiled by cling or into a shared library. Standard library only.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <new>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace sofie {
namespace runtime {

/// In a described shape: a size that is an expression of symbols. Others: n >= 0 is n, -(k + 1) is symbol k.
constexpr std::int64_t kExpression = INT64_MIN;

/// Returned by Api::run.
enum Status { kOk = 0, kFailed = 1, kNoMemory = 2 };

/// One input or output, as Python reads it.
struct Tensor {
  const char* name;
  const std::int64_t* shape;
  std::uint64_t rank;
  std::int32_t dtype;    // numbers of ONNX's TensorProto.DataType
  std::int32_t dynamic;  // size known only after the run
};

/// A Session type as a table. Sessions are opaque pointers; no function throws.
struct Api {
  std::uint64_t version;
  std::uint64_t symbols, inputs, outputs;
  const char* const* symbol_names;
  const Tensor* input;
  const Tensor* output;
  /// A new Session; weights null: its default file. On failure null, and the message in `error`.
  void* (*create)(const char* weights, char* error, std::size_t error_size);
  void (*destroy)(void* session);
  /// Shape of an output for these sizes, before a run. Not for dynamic outputs.
  int (*output_shape)(void* session, std::size_t output, const std::size_t* dims, std::size_t* shape);
  /// Runs. `out` of a dynamic output is not read.
  int (*run)(void* session, const std::size_t* dims, const void* const* in, void* const* out);
  /// Data of a dynamic output after a run, and its shape.
  const void* (*dynamic_output)(void* session, std::size_t output, std::size_t* shape);
  /// Message of the last function that failed.
  const char* (*error)(void* session);
};

constexpr std::uint64_t kApiVersion = 1;

template <class List>
using Indices = std::make_index_sequence<std::tuple_size<List>::value>;

/// How a tensor of T is kept in a std::vector: std::vector<bool> has no data().
template <class T>
using Stored = std::conditional_t<std::is_same<T, bool>::value, std::uint8_t, T>;

/// Whether an output's shape needs more than the sizes of the symbols.
template <class Output>
constexpr bool has_expression() {
  for (std::size_t axis = 0; axis < Output::rank; ++axis) {
    if (Output::shape[axis] == kExpression) return true;
  }
  return false;
}

// ---------------------------------------------------------------------------------------------------------
// Calls with arrays of pointers
// ---------------------------------------------------------------------------------------------------------

template <class Output>
decltype(auto) output_argument(void* out) {
  using T = typename Output::type;
  if constexpr (Output::dynamic) {
    return *static_cast<std::vector<Stored<T>>*>(out);
  } else {
    return static_cast<T*>(out);
  }
}

template <class Session, std::size_t... S, std::size_t... I, std::size_t... O>
void run(Session& session, const std::size_t* dims, const void* const* in, void* const* out,
         std::index_sequence<S...>, std::index_sequence<I...>, std::index_sequence<O...>) {
  (void)dims, (void)in, (void)out;
  session.infer_to(
      dims[S]...,
      static_cast<const typename std::tuple_element_t<I, typename Session::Inputs>::type*>(in[I])...,
      output_argument<std::tuple_element_t<O, typename Session::Outputs>>(out[O])...);
}

/// Runs a generated Session. `out` of a dynamic output points to a std::vector.
template <class Session>
void run(Session& session, const std::size_t* dims, const void* const* in, void* const* out) {
  run(session, dims, in, out, std::make_index_sequence<Session::kSymbols>(),
      Indices<typename Session::Inputs>(), Indices<typename Session::Outputs>());
}

template <class Session, std::size_t... S>
void prepare(Session& session, const std::size_t* dims, std::index_sequence<S...>) {
  session.prepare(dims[S]...);
}

/// Writes the shape that an output (not a dynamic one) will have for these sizes; throws where these cannot
/// be sizes.
template <std::size_t output, class Session>
void output_shape(Session& session, const std::size_t* dims, std::size_t* shape) {
  using Output = std::tuple_element_t<output, typename Session::Outputs>;
  static_assert(!Output::dynamic, "this size is known only after the run");
  if constexpr (Session::kSymbols > 0) prepare(session, dims, std::make_index_sequence<Session::kSymbols>());
  if constexpr (has_expression<Output>()) {
    const std::vector<std::size_t> computed = session.output_shape(output);
    for (std::size_t axis = 0; axis < Output::rank; ++axis) shape[axis] = computed[axis];
  } else {
    (void)session, (void)dims;
    for (std::size_t axis = 0; axis < Output::rank; ++axis) {
      const std::int64_t size = Output::shape[axis];
      shape[axis] = size < 0 ? dims[-(size + 1)] : static_cast<std::size_t>(size);
    }
  }
}

// ---------------------------------------------------------------------------------------------------------
// The table
// ---------------------------------------------------------------------------------------------------------

/// ONNX's number of an element type.
template <class T>
std::int32_t dtype() {
  if constexpr (std::is_same<T, bool>::value) {
    return 9;
  } else if constexpr (std::is_floating_point<T>::value) {
    return sizeof(T) == 4 ? 1 : 11;
  } else if constexpr (std::is_integral<T>::value) {
    constexpr std::int32_t unsigned_numbers[] = {0, 2, 4, 0, 12, 0, 0, 0, 13};
    constexpr std::int32_t signed_numbers[] = {0, 3, 5, 0, 6, 0, 0, 0, 7};
    return std::is_signed<T>::value ? signed_numbers[sizeof(T)] : unsigned_numbers[sizeof(T)];
  } else {  // a 16-bit float: the bits of 1 tell which one
    static_assert(sizeof(T) == 2, "unknown element type");
    const T one(1.0f);
    std::uint16_t bits;
    std::memcpy(&bits, &one, sizeof bits);
    return bits == 0x3C00 ? 10 : 16;
  }
}

template <class T, class = void>
struct IsDynamic : std::false_type {};
template <class T>
struct IsDynamic<T, std::enable_if_t<T::dynamic>> : std::true_type {};

template <class... T>
const Tensor* describe(std::tuple<T...>*) {
  static const std::array<Tensor, sizeof...(T) + 1> tensors{
      {Tensor{T::name, T::shape, T::rank, dtype<typename T::type>(), IsDynamic<T>::value}..., Tensor{}}};
  return tensors.data();
}

/// A Session with what a caller without C++ types cannot hold.
template <class Session>
struct Instance {
  template <class List>
  struct Vectors;
  template <class... Output>
  struct Vectors<std::tuple<Output...>> {
    using type = std::tuple<std::vector<Stored<typename Output::type>>...>;
  };
  using Outputs = typename Session::Outputs;

  template <class... Arguments>
  explicit Instance(const Arguments&... arguments) : session(arguments...) {}

  static void* create(const char* weights, char* error, std::size_t error_size) {
    std::string message;
    try {
      if constexpr (std::is_constructible<Session, std::string>::value) {
        if (weights != nullptr) return new Instance(std::string(weights));
      }
      return new Instance();
    } catch (const std::exception& exception) {
      message = exception.what();
    } catch (...) {
      message = "unknown exception";
    }
    const std::size_t length = message.size() < error_size ? message.size() : error_size - 1;
    std::memcpy(error, message.data(), length);
    error[length] = '\0';
    return nullptr;
  }

  static void destroy(void* instance) { delete static_cast<Instance*>(instance); }

  static const char* last_error(void* instance) { return static_cast<Instance*>(instance)->error.c_str(); }

  static int output_shape(void* instance, std::size_t output, const std::size_t* dims, std::size_t* shape) {
    auto& self = *static_cast<Instance*>(instance);
    return self.guarded([&] { self.output_shape(output, dims, shape, Indices<Outputs>()); });
  }

  static int run(void* instance, const std::size_t* dims, const void* const* in, void* const* out) {
    auto& self = *static_cast<Instance*>(instance);
    return self.guarded([&] { self.run(dims, in, out, Indices<Outputs>()); });
  }

  static const void* dynamic_output(void* instance, std::size_t output, std::size_t* shape) {
    auto& self = *static_cast<Instance*>(instance);
    const std::vector<std::size_t> sizes = self.session.output_shape(output);
    for (std::size_t axis = 0; axis < sizes.size(); ++axis) shape[axis] = sizes[axis];
    return self.vector(output, Indices<Outputs>());
  }

 private:
  template <class Function>
  int guarded(const Function& function) {
    try {
      function();
      return kOk;
    } catch (const std::bad_alloc&) {
      error = "out of memory";
      return kNoMemory;
    } catch (const std::exception& exception) {
      error = exception.what();
    } catch (...) {
      error = "unknown exception";
    }
    return kFailed;
  }

  template <std::size_t... O>
  void output_shape(std::size_t output, const std::size_t* dims, std::size_t* shape,
                    std::index_sequence<O...>) {
    (void)std::initializer_list<int>{(output == O ? (shape_of<O>(dims, shape), 0) : 0)...};
  }

  template <std::size_t output>
  void shape_of(const std::size_t* dims, std::size_t* shape) {
    if constexpr (std::tuple_element_t<output, Outputs>::dynamic) {
      throw std::logic_error("the size of this output is known only after the run");
    } else {
      runtime::output_shape<output>(session, dims, shape);
    }
  }

  template <std::size_t... O>
  void run(const std::size_t* dims, const void* const* in, void* const* out, std::index_sequence<O...>) {
    void* all[] = {(std::tuple_element_t<O, Outputs>::dynamic ? &std::get<O>(vectors) : out[O])...};
    runtime::run(session, dims, in, all);
  }

  template <std::size_t... O>
  const void* vector(std::size_t output, std::index_sequence<O...>) {
    const void* data[] = {std::get<O>(vectors).data()...};
    return data[output];
  }

  Session session;
  typename Vectors<Outputs>::type vectors;
  std::string error;
};

/// The table of a generated Session type.
template <class Session>
const Api* api() {
  using Self = Instance<Session>;
  static const Api table{kApiVersion,
                         Session::kSymbols,
                         std::tuple_size<typename Session::Inputs>::value,
                         std::tuple_size<typename Session::Outputs>::value,
                         Session::kSymbolNames,
                         describe(static_cast<typename Session::Inputs*>(nullptr)),
                         describe(static_cast<typename Session::Outputs*>(nullptr)),
                         &Self::create,
                         &Self::destroy,
                         &Self::output_shape,
                         &Self::run,
                         &Self::dynamic_output,
                         &Self::last_error};
  return &table;
}

// ---------------------------------------------------------------------------------------------------------
// A Session inside a shared library
// ---------------------------------------------------------------------------------------------------------

/// Base of a Session whose code lies in a shared library; the derived class repeats the description.
class LibrarySession {
 public:
  LibrarySession(const Api* api, const char* weights) : api_(api) {
    char message[4096];
    session_ = api->create(weights, message, sizeof message);
    if (session_ == nullptr) throw std::runtime_error(message);
  }
  LibrarySession(const LibrarySession&) = delete;
  LibrarySession& operator=(const LibrarySession&) = delete;
  ~LibrarySession() { api_->destroy(session_); }

  void check(int status) const {
    if (status == kNoMemory) throw std::bad_alloc();
    if (status != kOk) throw std::runtime_error(api_->error(session_));
  }
  const Api* api() const { return api_; }
  void* session() const { return session_; }

 private:
  const Api* api_;
  void* session_;
};

template <class Session, std::size_t... O>
void run_in_library(Session& session, const std::size_t* dims, const void* const* in, void* const* out,
                    std::index_sequence<O...>) {
  session.check(session.api()->run(session.session(), dims, in, out));
  const auto fetch = [&](auto output, auto& vector) {
    std::array<std::size_t, 64> shape;
    const void* data = session.api()->dynamic_output(session.session(), output, shape.data());
    std::size_t size = 1;
    for (std::size_t axis = 0; axis < session.api()->output[output].rank; ++axis) size *= shape[axis];
    using T = typename std::decay_t<decltype(vector)>::value_type;
    vector.assign(static_cast<const T*>(data), static_cast<const T*>(data) + size);
  };
  const auto visit = [&](auto output) {
    using Output = std::tuple_element_t<decltype(output)::value, typename Session::Outputs>;
    if constexpr (Output::dynamic) fetch(output, output_argument<Output>(out[output]));
  };
  (visit(std::integral_constant<std::size_t, O>()), ...);
}

/// Runs a Session, wherever its code is.
template <class Session>
void infer_to(Session& session, const std::size_t* dims, const void* const* in, void* const* out) {
  if constexpr (std::is_base_of<LibrarySession, Session>::value) {
    run_in_library(session, dims, in, out, Indices<typename Session::Outputs>());
  } else {
    run(session, dims, in, out);
  }
}

/// Number of elements that an output (not a dynamic one) will have, wherever the Session's code is.
template <std::size_t output, class Session>
std::size_t output_size(Session& session, const std::size_t* dims) {
  using Output = std::tuple_element_t<output, typename Session::Outputs>;
  std::array<std::size_t, Output::rank + 1> shape{};
  if constexpr (std::is_base_of<LibrarySession, Session>::value) {
    session.check(session.api()->output_shape(session.session(), output, dims, shape.data()));
  } else {
    output_shape<output>(session, dims, shape.data());
  }
  std::size_t size = 1;
  for (std::size_t axis = 0; axis < Output::rank; ++axis) size *= shape[axis];
  return size;
}

}  // namespace runtime
}  // namespace sofie
