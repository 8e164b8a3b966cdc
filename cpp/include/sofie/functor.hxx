// sofie::Functor: a generated Session as a callable over columns. SofieFunctor.hxx is how users spell it.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <ROOT/RVec.hxx>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "columns.hxx"
#include "runtime.hxx"

namespace sofie {
namespace dataframe {

/// Memory for the values of one input or output; grows and never shrinks.
template <class T>
class Buffer {
 public:
  Buffer() : data_(), capacity_(0) {}
  T* reserve(std::size_t size) {
    if (size > capacity_) {
      data_.reset(new T[size]);
      capacity_ = size;
    }
    return data_.get();
  }

 private:
  std::unique_ptr<T[]> data_;
  std::size_t capacity_;
};

template <class T, class Value>
T convert(const Value& value) {
  return static_cast<T>(static_cast<std::conditional_t<is_float16<T>, float, Value>>(value));
}

template <class Output>
constexpr bool is_number(std::int64_t batch) {
  if (Output::dynamic) return false;
  std::int64_t size = 1;
  for (std::size_t axis = 0; axis < Output::rank; ++axis) {
    if (Output::shape[axis] >= 0)
      size *= Output::shape[axis];
    else if (Output::shape[axis] == runtime::kExpression || -(Output::shape[axis] + 1) != batch)
      return false;
  }
  return size == 1;
}

template <class Output, bool number>
struct Result {
  using T = typename Output::type;
  using type = std::conditional_t<number, Element<T>, ROOT::VecOps::RVec<Element<T>>>;
};

template <class List>
struct Buffers;
template <class... Tensors>
struct Buffers<std::tuple<Tensors...>> {
  using Flat = std::tuple<Buffer<typename Tensors::type>...>;
  using Vectors = std::tuple<std::vector<runtime::Stored<typename Tensors::type>>...>;
};

/// What one slot needs; aligned so that slots share no cache line (nor the pair that is fetched together).
template <class Session>
struct alignas(128) Slot {
  template <class... Arguments>
  explicit Slot(const Arguments&... arguments) : session(arguments...), inputs(), outputs(), vectors() {}
  Session session;
  typename Buffers<typename Session::Inputs>::Flat inputs;
  typename Buffers<typename Session::Outputs>::Flat outputs;     // of 16-bit floats
  typename Buffers<typename Session::Outputs>::Vectors vectors;  // of dynamic outputs
};

template <class Session>
struct Slots {
  Slots(unsigned count, const std::string& weights, const std::vector<std::string>& names)
      : slots(), labels(names) {
    for (unsigned slot = 0; slot < count; ++slot) slots.push_back(make(weights));
  }
  static std::unique_ptr<Slot<Session>> make(const std::string& weights) {
    if constexpr (std::is_constructible<Session, std::string>::value) {
      if (!weights.empty()) return std::make_unique<Slot<Session>>(weights);
    }
    return std::make_unique<Slot<Session>>();
  }
  std::string label(std::size_t column) const {
    return column < labels.size() ? labels[column] : "column " + std::to_string(column);
  }
  std::vector<std::unique_ptr<Slot<Session>>> slots;
  std::vector<std::string> labels;
};

}  // namespace dataframe

/// The functor with everything chosen: `Outputs` are the indices of the outputs it returns, `Counts` the
/// columns per input (empty: deduced), `Columns` the columns' types.
template <class Session, class Outputs, class Counts, class Columns>
class Functor;

template <class Session, std::size_t... outputs, std::size_t... counts, class... Columns>
class Functor<Session, std::index_sequence<outputs...>, std::index_sequence<counts...>,
              dataframe::Types<Columns...>> {
  using Inputs = typename Session::Inputs;
  using AllOutputs = typename Session::Outputs;
  using Layout = dataframe::Layout;
  using Kind = dataframe::Kind;
  static constexpr std::size_t kInputs = std::tuple_size<Inputs>::value;
  static constexpr std::size_t kOutputs = std::tuple_size<AllOutputs>::value;
  static constexpr auto kInput = dataframe::input_facts(static_cast<Inputs*>(nullptr));
  static constexpr auto kColumn = dataframe::column_facts<Columns...>();
  static constexpr auto kPlan = dataframe::plan_for<Session, Columns...>(std::index_sequence<counts...>());

  template <std::size_t output>
  using Output = std::tuple_element_t<output, AllOutputs>;
  template <std::size_t output>
  using ResultOf =
      typename dataframe::Result<Output<output>, dataframe::is_number<Output<output>>(kPlan.batch)>::type;
  using Results = std::tuple<ResultOf<outputs>...>;

 public:
  /// One number or RVec, or a std::tuple of these.
  using Result = std::conditional_t<sizeof...(outputs) == 1, std::tuple_element_t<0, Results>, Results>;

  /// Sessions for that many slots.
  ///
  /// @param weights the weights file; empty: the one that the generated header names.
  /// @param labels the columns' names, for messages.
  /// @throws std::invalid_argument when the columns' types cannot feed the model.
  explicit Functor(unsigned slots, const std::string& weights = {},
                   const std::vector<std::string>& labels = {})
      : state_() {
    const std::string message = misfit(labels);
    if (!message.empty()) throw std::invalid_argument(message);
    state_ = std::make_shared<dataframe::Slots<Session>>(slots, weights, labels);
  }

  /// Why these columns cannot feed the model; empty where they can.
  static std::string misfit(const std::vector<std::string>& labels) {
    using dataframe::Misfit;
    if (kPlan.misfit == Misfit::kNone) return {};
    const auto label = [&](std::size_t column) {
      return column < labels.size() ? labels[column] : "column " + std::to_string(column);
    };
    const std::string input = dataframe::input_label<Session>(kPlan.input, static_cast<Inputs*>(nullptr));
    const auto& facts = kInput[kPlan.input];
    const std::size_t fixed = dataframe::fixed_size(facts);
    const std::size_t axes = dataframe::free_axes(facts, kPlan.batch);
    const std::string one_array = "one array that holds all its values";
    const std::string takes =
        axes == 0 ? std::to_string(fixed) + (fixed == 1 ? " value" : " values")
        : axes > 1
            ? one_array
            : std::to_string(fixed) + (fixed == 1 ? " array" : " arrays of equal length, or " + one_array);
    switch (kPlan.misfit) {
      case Misfit::kTooFew:
        return input + " takes " + takes + "; the columns give " + std::to_string(kPlan.found);
      case Misfit::kTooMany:
        return label(kPlan.column < sizeof...(Columns) ? kPlan.column : sizeof...(Columns) - 1) +
               " is one too many: " + input + " takes " + takes;
      case Misfit::kType:
        return label(kPlan.column) + " is neither a number nor an array of numbers";
      case Misfit::kFraction:
        return label(kPlan.column) + " is not of an integer type, as " + input +
               " is: its fraction would be lost; convert it in a Define";
      case Misfit::kNotArray:
        return label(kPlan.column) + " is one number, but " + input + " takes " + takes;
      case Misfit::kExpression:
        return input +
               " has a size that does not follow from columns; fix the model's dims when it is loaded";
      case Misfit::kUnknownSize:
        return input +
               " has more than one size that does not follow from the columns' lengths; fix the model's "
               "dims when it is loaded";
      default:
        return {};
    }
  }

  /// One event.
  Result operator()(unsigned slot, const Columns&... columns) const {
    if (slot >= state_->slots.size()) {
      throw std::runtime_error(
          "this functor was made for " + std::to_string(state_->slots.size()) +
          " slots, and the data frame uses more: make it after ROOT::EnableImplicitMT, with "
          "df.GetNSlots()");
    }
    if constexpr (kPlan.misfit == dataframe::Misfit::kNone) {
      return evaluate(*state_->slots[slot], std::tie(columns...), std::make_index_sequence<kInputs>(),
                      std::make_index_sequence<kOutputs>());
    } else {  // never called: the constructor has thrown
      return ((void)columns, ..., Result());
    }
  }

 private:
  using Slot = dataframe::Slot<Session>;
  using Tuple = std::tuple<const Columns&...>;

  struct Sizes {
    std::size_t dims[dataframe::room(Session::kSymbols)] = {};
    bool known[dataframe::room(Session::kSymbols)] = {};
  };

  template <std::size_t... I, std::size_t... O>
  Result evaluate(Slot& slot, const Tuple& columns, std::index_sequence<I...>,
                  std::index_sequence<O...>) const {
    Sizes sizes{};
    if constexpr (kPlan.batch != dataframe::kNoSymbol) {
      sizes.dims[kPlan.batch] = 1;
      sizes.known[kPlan.batch] = true;
    }
    (find_sizes<I, false>(columns, sizes), ...);
    (find_sizes<I, true>(columns, sizes), ...);
    const void* in[] = {gather<I>(slot, columns, sizes)..., nullptr};
    Run<O...> results(slot, sizes.dims);
    void* out[] = {results.template pointer<O>()...};
    runtime::infer_to(slot.session, sizes.dims, in, out);
    if constexpr (sizeof...(outputs) == 1) {
      return std::get<0>(Results(results.template take<outputs>()...));
    } else {
      return Result(results.template take<outputs>()...);
    }
  }

  // --- sizes -----------------------------------------------------------------------------------------------

  /// Learns the symbols of an input from its columns' lengths and checks them; those with several symbols
  /// later.
  template <std::size_t input, bool several>
  void find_sizes(const Tuple& columns, Sizes& sizes) const {
    (void)columns, (void)sizes;
    constexpr auto source = kPlan.source[input];
    constexpr std::size_t axes = dataframe::free_axes(kInput[input], kPlan.batch);
    if constexpr (axes > 0 && several == (axes > 1)) {
      std::size_t length = std::get<source.first>(columns).size();
      if constexpr (source.layout == Layout::kObjects) {
        set_size<input>(source.first, symbol(input), length, sizes);
        same_length<input>(columns, length, std::make_index_sequence<source.count>());
      } else {
        whole_size<input>(length, sizes);
      }
    }
  }

  /// The only free symbol of an input.
  static constexpr std::size_t symbol(std::size_t input) {
    std::size_t found = 0;
    for (std::size_t axis = 0; axis < kInput[input].rank; ++axis) {
      const std::int64_t symbol = -(kInput[input].shape[axis] + 1);
      if (symbol >= 0 && symbol != kPlan.batch) found = static_cast<std::size_t>(symbol);
    }
    return found;
  }

  template <std::size_t input>
  void set_size(std::size_t column, std::size_t symbol, std::size_t size, Sizes& sizes) const {
    if (sizes.known[symbol] && sizes.dims[symbol] != size) {
      throw std::runtime_error(state_->label(column) + " has " + std::to_string(size) +
                               " elements in this event, but " + Session::kSymbolNames[symbol] + " is " +
                               std::to_string(sizes.dims[symbol]) + " after the columns before it (" +
                               label(input) + ")");
    }
    sizes.dims[symbol] = size;
    sizes.known[symbol] = true;
  }

  template <std::size_t input, std::size_t... C>
  void same_length(const Tuple& columns, std::size_t length, std::index_sequence<C...>) const {
    constexpr std::size_t first = kPlan.source[input].first;
    const auto check = [&](std::size_t column, std::size_t size) {
      if (size == length) return;
      throw std::runtime_error(state_->label(column) + " has " + std::to_string(size) +
                               " elements in this event and " + state_->label(first) + " has " +
                               std::to_string(length) + ": the columns of " + label(input) +
                               " must have equal lengths");
    };
    (check(first + C, std::get<first + C>(columns).size()), ...);
  }

  /// Solves product(shape) == length for the one symbol that is not known, to any power.
  template <std::size_t input>
  void whole_size(std::size_t length, Sizes& sizes) const {
    constexpr std::size_t column = kPlan.source[input].first;
    std::size_t rest = 1, power = 0, unknown = 0;
    for (std::size_t axis = 0; axis < kInput[input].rank; ++axis) {
      const std::int64_t size = kInput[input].shape[axis];
      if (size >= 0) {
        rest *= static_cast<std::size_t>(size);
      } else if (sizes.known[-(size + 1)]) {
        rest *= sizes.dims[-(size + 1)];
      } else {
        unknown = static_cast<std::size_t>(-(size + 1));
        ++power;
      }
    }
    const auto product = [&](std::size_t size) {
      std::size_t value = rest;
      for (std::size_t factor = 0; factor < power; ++factor) value *= size;
      return value;
    };
    std::size_t size = power == 1 && rest > 0 ? length / rest : 0;
    while (power > 1 && rest > 0 && product(size) < length) ++size;
    if (product(size) != length) {
      throw std::runtime_error(state_->label(column) + " has " + std::to_string(length) +
                               " elements in this event, which do not fill " + label(input));
    }
    if (power > 0) set_size<input>(column, unknown, size, sizes);
  }

  static std::string label(std::size_t input) {
    return dataframe::input_label<Session>(input, static_cast<Inputs*>(nullptr));
  }

  // --- values ----------------------------------------------------------------------------------------------

  /// Address of an input's values: a column's own where they lie there already.
  template <std::size_t input>
  const void* gather(Slot& slot, const Tuple& columns, const Sizes& sizes) const {
    using T = typename std::tuple_element_t<input, Inputs>::type;
    constexpr auto source = kPlan.source[input];
    (void)sizes;
    if constexpr (source.count == 1 && is_in_place<T, source.first>()) {
      const auto& column = std::get<source.first>(columns);
      if constexpr (source.layout == Layout::kValues) check_count<input>(columns, column.size());
      return column.data();
    } else {
      auto& buffer = std::get<input>(slot.inputs);
      const auto indices = std::make_index_sequence<source.count>();
      if constexpr (source.layout == Layout::kValues) {
        constexpr std::size_t size = dataframe::fixed_size(kInput[input]);
        T* values = buffer.reserve(size);
        append<input, T>(values, columns, indices);
        return values;
      } else if constexpr (source.layout == Layout::kWhole) {
        const auto& column = std::get<source.first>(columns);
        T* values = buffer.reserve(column.size());
        copy(column, values, 1);
        return values;
      } else {
        const std::size_t length = sizes.dims[symbol(input)];
        T* values = buffer.reserve(length * source.count);
        spread<input, T>(values, columns, length, indices);
        return values;
      }
    }
  }

  template <class T, std::size_t column>
  static constexpr bool is_in_place() {
    using Type = std::tuple_element_t<column, std::tuple<Columns...>>;
    return kColumn[column].kind != Kind::kNumber && !std::is_same<Type, std::vector<bool>>::value &&
           std::is_same<typename dataframe::Column<Type>::Value, T>::value;
  }

  template <class Array, class T>
  static void copy(const Array& array, T* to, std::size_t stride) {
    const std::size_t size = array.size();
    for (std::size_t i = 0; i < size; ++i) to[i * stride] = dataframe::convert<T>(array[i]);
  }

  /// The values of numbers and arrays, one after the other.
  template <std::size_t input, class T, std::size_t... C>
  void append(T* values, const Tuple& columns, std::index_sequence<C...>) const {
    constexpr std::size_t first = kPlan.source[input].first;
    std::size_t total = 0;
    ((total += count<first + C>(columns)), ...);
    check_count<input>(columns, total);
    const auto put = [&](auto column) {
      const auto& value = std::get<decltype(column)::value>(columns);
      if constexpr (kColumn[decltype(column)::value].kind == Kind::kNumber) {
        *values++ = dataframe::convert<T>(value);
      } else {
        copy(value, values, 1);
        values += value.size();
      }
    };
    (put(std::integral_constant<std::size_t, first + C>()), ...);
  }

  template <std::size_t column>
  static std::size_t count(const Tuple& columns) {
    if constexpr (kColumn[column].kind == Kind::kNumber) {
      return (void)columns, 1;
    } else {
      return std::get<column>(columns).size();
    }
  }

  template <std::size_t input>
  void check_count(const Tuple&, std::size_t found) const {
    constexpr std::size_t expected = dataframe::fixed_size(kInput[input]);
    if (found == expected) return;
    constexpr auto source = kPlan.source[input];
    std::string which = state_->label(source.first);
    if (source.count > 1) which += " to " + state_->label(source.first + source.count - 1);
    throw std::runtime_error(label(input) + " takes " + std::to_string(expected) + " values; " + which +
                             (source.count > 1 ? " give " : " gives ") + std::to_string(found) +
                             " in this event");
  }

  /// Column (a, b) to values[a, :, b], where the varying axis stands between the axes of a and those of b.
  template <std::size_t input, class T, std::size_t... C>
  static void spread(T* values, const Tuple& columns, std::size_t length, std::index_sequence<C...>) {
    constexpr std::size_t first = kPlan.source[input].first;
    constexpr std::size_t inner = inner_size(input);
    (copy(std::get<first + C>(columns), values + C / inner * length * inner + C % inner, inner), ...);
  }

  /// Product of the sizes after the varying axis.
  static constexpr std::size_t inner_size(std::size_t input) {
    std::size_t size = 1;
    for (std::size_t axis = 0; axis < kInput[input].rank; ++axis) {
      const std::int64_t d = kInput[input].shape[axis];
      if (d >= 0)
        size *= static_cast<std::size_t>(d);
      else if (-(d + 1) != kPlan.batch)
        size = 1;
    }
    return size == 0 ? 1 : size;
  }

  // --- results ---------------------------------------------------------------------------------------------

  /// Where the outputs go while the model runs.
  template <std::size_t... O>
  class Run {
   public:
    Run(Slot& slot, const std::size_t* dims)
        : slot_(slot), results_(make<O>(dims)...), pointers_{address<O>(dims)...} {}

    template <std::size_t output>
    void* pointer() {
      return pointers_[output];
    }

    template <std::size_t output>
    ResultOf<output> take() {
      using T = typename Output<output>::type;
      auto& result = std::get<output>(results_);
      if constexpr (Output<output>::dynamic) {
        const auto& vector = std::get<output>(slot_.vectors);
        result.resize(vector.size());
        copy(vector, result.data(), 1);
      } else if constexpr (dataframe::is_float16<T>) {
        const T* values = static_cast<const T*>(pointers_[output]);
        if constexpr (dataframe::is_number<Output<output>>(kPlan.batch)) {
          result = static_cast<float>(*values);
        } else {
          for (std::size_t i = 0; i < result.size(); ++i) result[i] = static_cast<float>(values[i]);
        }
      }
      return std::move(result);
    }

   private:
    template <std::size_t output>
    ResultOf<output> make(const std::size_t* dims) const {
      (void)dims;
      if constexpr (Output<output>::dynamic || dataframe::is_number<Output<output>>(kPlan.batch)) {
        return {};
      } else {
        return ResultOf<output>(runtime::output_size<output>(slot_.session, dims));
      }
    }

    template <std::size_t output>
    void* address(const std::size_t* dims) {
      using T = typename Output<output>::type;
      (void)dims;
      if constexpr (Output<output>::dynamic) {
        return &std::get<output>(slot_.vectors);
      } else if constexpr (dataframe::is_float16<T>) {
        return std::get<output>(slot_.outputs).reserve(runtime::output_size<output>(slot_.session, dims));
      } else if constexpr (dataframe::is_number<Output<output>>(kPlan.batch)) {
        return &std::get<output>(results_);
      } else {
        return std::get<output>(results_).data();
      }
    }

    Slot& slot_;
    std::tuple<ResultOf<O>...> results_;
    void* pointers_[sizeof...(O)];
  };

  std::shared_ptr<dataframe::Slots<Session>> state_;
};

namespace dataframe {

template <class Session, class... Columns>
struct FunctorFor {
  using type =
      Functor<Session, runtime::Indices<typename Session::Outputs>, std::index_sequence<>, Types<Columns...>>;
};
template <class Session>
struct FunctorFor<Session> {
  using type =
      Functor<Session, runtime::Indices<typename Session::Outputs>, std::index_sequence<>, Defaults<Session>>;
};

}  // namespace dataframe
}  // namespace sofie
