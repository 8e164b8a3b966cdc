// sofie::Functor: a generated Session as a callable over columns. SofieFunctor.hxx is how users spell it.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <ROOT/RVec.hxx>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <sstream>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "../core/runtime.hxx"
#include "column_plan.hxx"
#include "columns.hxx"
#include "event_errors.hxx"
#include "slots.hxx"

namespace sofie {
namespace dataframe {

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

}  // namespace dataframe

/// The functor with everything chosen: `Outputs` are the indices of the outputs it returns, `Counts` the
/// columns per input (empty: deduced), `Layouts` how these fill it (empty: by shape), `Columns` the columns'
/// types.
template <class Session, class Outputs, class Counts, class Layouts, class Columns>
class Functor;

template <class Session, std::size_t... outputs, std::size_t... counts, dataframe::Layout... layouts,
          class... Columns>
class Functor<Session, std::index_sequence<outputs...>, std::index_sequence<counts...>,
              dataframe::Layouts<layouts...>, dataframe::Types<Columns...>> {
  using Inputs = typename Session::Inputs;
  using AllOutputs = typename Session::Outputs;
  using Form = dataframe::Form;
  using Kind = dataframe::Kind;
  static constexpr std::size_t kInputs = std::tuple_size<Inputs>::value;
  static constexpr std::size_t kOutputs = std::tuple_size<AllOutputs>::value;
  static constexpr auto kInput = dataframe::input_facts(static_cast<Inputs*>(nullptr));
  static constexpr auto kColumn = dataframe::column_facts<Columns...>();
  static constexpr auto kPlan = dataframe::plan_for<Session, Columns...>(std::index_sequence<counts...>(),
                                                                         dataframe::Layouts<layouts...>());

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
  /// @param on_error what an event becomes that fails.
  /// @throws std::invalid_argument when the columns' types cannot feed the model, or an output cannot hold
  /// the
  ///         value for events that fail.
  explicit Functor(unsigned slots, const std::string& weights = {},
                   const std::vector<std::string>& labels = {}, OnError on_error = OnError::raise())
      : state_() {
    for (const std::string& message : {misfit(labels), misfit(on_error)}) {
      if (!message.empty()) throw std::invalid_argument(message);
    }
    state_ = std::make_shared<dataframe::Slots<Session>>(slots, weights, labels, on_error);
  }

  /// Why these columns cannot feed the model; empty where they can.
  static std::string misfit(const std::vector<std::string>& labels) {
    std::string label[sizeof...(Columns) + 1];
    for (std::size_t c = 0; c < sizeof...(Columns); ++c) {
      label[c] = c < labels.size() ? labels[c] : "column " + std::to_string(c);
    }
    return dataframe::explain<Session>(kPlan, kInput, label);
  }

  /// Why events that fail cannot become this; empty where they can.
  static std::string misfit(OnError on_error) {
    std::string text;
    const auto check = [&](auto output, bool fits) {
      if (fits || !text.empty()) return;
      text = std::string("output '") + Output<decltype(output)::value>::name + "' is of integers, and " +
             (on_error.value() == on_error.value() ? std::to_string(on_error.value()) + " is none of them"
                                                   : "there is no NaN among them") +
             ": choose another value for events that fail (on_error), or another output";
    };
    (check(std::integral_constant<std::size_t, outputs>(),
           on_error.fits<dataframe::Element<typename Output<outputs>::type>>()),
     ...);
    return text;
  }

  /// One event, for DefineSlot.
  Result operator()(unsigned slot, const Columns&... columns) const { return run(slot, nullptr, columns...); }

  /// One event of which the entry number is known.
  Result at(unsigned slot, std::uint64_t entry, const Columns&... columns) const {
    return run(slot, &entry, columns...);
  }

  /// The same for DefineSlotEntry: messages about events name their entries.
  class WithEntry {
   public:
    explicit WithEntry(const Functor& functor) : functor_(functor) {}
    Result operator()(unsigned slot, ULong64_t entry, const Columns&... columns) const {
      return functor_.at(slot, entry, columns...);
    }

   private:
    Functor functor_;
  };
  WithEntry with_entry() const { return WithEntry(*this); }

  /// How many events failed so far, in all slots.
  std::uint64_t failed() const { return state_->failed(); }

  /// What all copies know about events that failed.
  std::shared_ptr<dataframe::Failures> failures() const { return state_; }

 private:
  using Slot = dataframe::Slot<Session>;
  using Tuple = std::tuple<const Columns&...>;

  struct Sizes {
    std::size_t dims[dataframe::room(Session::kSymbols)] = {};
    bool known[dataframe::room(Session::kSymbols)] = {};
  };

  Result run(unsigned number, const std::uint64_t* entry, const Columns&... columns) const {
    Slot& slot = state_->slot(number);
    const std::uint64_t event = slot.events.next();
    Sizes sizes{};
    try {
      if constexpr (kPlan.misfit == dataframe::Misfit::kNone) {
        return evaluate(slot, std::tie(columns...), sizes, std::make_index_sequence<kInputs>(),
                        std::make_index_sequence<kOutputs>());
      } else {  // never called: the constructor has thrown
        return ((void)columns, ..., Result());
      }
    } catch (const std::bad_alloc&) {
      throw;  // the event is not to blame
    } catch (const std::exception& error) {
      return fail(slot, sizes, describe(number, entry, event, error.what(), columns...));
    }
  }

  template <std::size_t... I, std::size_t... O>
  Result evaluate(Slot& slot, const Tuple& columns, Sizes& sizes, std::index_sequence<I...>,
                  std::index_sequence<O...>) const {
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
    return result(results.template take<outputs>()...);
  }

  template <class... Values>
  static Result result(Values&&... values) {
    if constexpr (sizeof...(outputs) == 1) {
      return std::get<0>(Results(std::forward<Values>(values)...));
    } else {
      return Result(std::forward<Values>(values)...);
    }
  }

  // --- events that fail ------------------------------------------------------------------------------------

  /// Which event failed, why, and the values of its columns.
  [[gnu::cold, gnu::noinline]] std::string describe(unsigned slot, const std::uint64_t* entry,
                                                    std::uint64_t event, const char* why,
                                                    const Columns&... columns) const {
    constexpr std::size_t shown = 20;
    std::ostringstream text;
    if (entry != nullptr)
      text << "entry " << *entry << " in slot " << slot << ": " << why;
    else
      text << "event " << event << " of slot " << slot << " (counted from 0): " << why;
    std::size_t column = 0;
    ((column++ < shown ? dataframe::describe(text, state_->label(column - 1), columns) : void()), ...);
    if (column > shown) text << "; and " << column - shown << " more columns";
    return text.str();
  }

  /// What the event becomes instead.
  [[gnu::cold, gnu::noinline]] Result fail(Slot& slot, const Sizes& sizes, const std::string& message) const {
    if (state_->on_error().raises()) throw std::runtime_error(message);
    slot.failed.next();
    state_->remember(message);
    return result(stand_in<outputs>(slot, sizes)...);
  }

  /// What an output is where the event failed: as many values as it would have had, as far as that is known.
  template <std::size_t output>
  ResultOf<output> stand_in(Slot& slot, const Sizes& sizes) const {
    using O = Output<output>;
    const auto value = static_cast<dataframe::Element<typename O::type>>(state_->on_error().value());
    (void)slot, (void)sizes;
    if constexpr (dataframe::is_number<O>(kPlan.batch)) {
      return value;
    } else if constexpr (O::dynamic) {
      return {};
    } else {
      for (std::size_t symbol = 0; symbol < Session::kSymbols; ++symbol) {
        const bool is_needed = runtime::has_expression<O>() || has_symbol<O>(symbol);
        if (is_needed && !sizes.known[symbol]) return {};
      }
      try {
        return ResultOf<output>(runtime::output_size<output>(slot.session, sizes.dims), value);
      } catch (const std::runtime_error&) {
        return {};  // the sizes themselves are what the model refuses
      }
    }
  }

  template <class O>
  static constexpr bool has_symbol(std::size_t symbol) {
    for (std::size_t axis = 0; axis < O::rank; ++axis) {
      if (O::shape[axis] == -static_cast<std::int64_t>(symbol) - 1) return true;
    }
    return false;
  }

  // --- sizes -----------------------------------------------------------------------------------------------

  /// Learns the symbols of an input from its columns' lengths and checks them; those with several symbols
  /// later.
  template <std::size_t input, bool several>
  void find_sizes(const Tuple& columns, Sizes& sizes) const {
    (void)columns, (void)sizes;
    constexpr auto source = kPlan.source[input];
    constexpr std::size_t axes = dataframe::free_axes(kInput[input], kPlan.batch);
    const auto indices = std::make_index_sequence<source.count>();
    if constexpr (axes > 0 && several == (axes > 1)) {
      if constexpr (source.form != Form::kObjects) {
        whole_size<input>(total<input>(columns, indices), sizes);
      } else if constexpr (source.measured < source.end()) {
        constexpr auto symbol = static_cast<std::size_t>(-(kInput[input].shape[source.axis] + 1));
        set_size<input>(source.measured, symbol, std::get<source.measured>(columns).size(), sizes);
        check_lengths<input>(columns, sizes.dims[symbol], indices);
      }
    }
  }

  template <std::size_t input>
  void set_size(std::size_t column, std::size_t symbol, std::size_t size, Sizes& sizes) const {
    if (sizes.known[symbol] && sizes.dims[symbol] != size) {
      throw std::runtime_error(state_->label(column) + " has " + std::to_string(size) + " elements, but " +
                               Session::kSymbolNames[symbol] + " is " + std::to_string(sizes.dims[symbol]) +
                               " after the columns before it (" + label(input) + ")");
    }
    sizes.dims[symbol] = size;
    sizes.known[symbol] = true;
  }

  /// All arrays of an input must have as many elements as it has objects.
  template <std::size_t input, std::size_t... C>
  void check_lengths(const Tuple& columns, std::size_t length, std::index_sequence<C...>) const {
    constexpr auto source = kPlan.source[input];
    const auto check = [&](auto column) {
      if constexpr (kColumn[decltype(column)::value].kind != Kind::kNumber) {
        const std::size_t size = std::get<decltype(column)::value>(columns).size();
        if (size == length) return;
        const std::string found = state_->label(column) + " has " + std::to_string(size) + " elements";
        const std::string taken = std::to_string(length);
        if (kInput[input].shape[source.axis] >= 0) {
          throw std::runtime_error(found + ", but " + label(input) + " takes " + taken + " of each column");
        }
        throw std::runtime_error(found + " and " + state_->label(source.measured) + " has " + taken +
                                 ": the columns of " + label(input) + " must have equal lengths");
      }
    };
    (check(std::integral_constant<std::size_t, source.first + C>()), ...);
  }

  /// Number of values in all columns of an input.
  template <std::size_t input, std::size_t... C>
  static std::size_t total(const Tuple& columns, std::index_sequence<C...>) {
    return (std::size_t{0} + ... + count<kPlan.source[input].first + C>(columns));
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
                               " elements, which do not fill " + label(input));
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
    constexpr bool is_listed = source.form == Form::kValues || source.form == Form::kWhole;
    const auto indices = std::make_index_sequence<source.count>();
    if constexpr (source.form == Form::kValues) check_count<input>(total<input>(columns, indices));
    if constexpr (source.count == 1 && is_listed && is_in_place<T, source.first>()) {
      return std::get<source.first>(columns).data();
    } else if constexpr (is_listed) {
      T* values = std::get<input>(slot.inputs).reserve(total<input>(columns, indices));
      append<input, T>(values, columns, indices);
      return values;
    } else {
      const std::int64_t size = kInput[input].shape[source.axis];
      std::size_t length = size < 0 ? sizes.dims[-(size + 1)] : static_cast<std::size_t>(size);
      if constexpr (source.form == Form::kFeatures) {
        length = dataframe::column_length(kInput[input], source);
        check_lengths<input>(columns, length, indices);
      } else if (size >= 0) {
        check_lengths<input>(columns, length, indices);
      }
      T* values = std::get<input>(slot.inputs).reserve(length * source.count);
      if constexpr (source.form == Form::kFeatures)
        interleave<input, T>(values, columns, indices);
      else
        spread<input, T>(values, columns, length, indices);
      return values;
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
  static void append(T* values, const Tuple& columns, std::index_sequence<C...>) {
    const auto put = [&](auto column) {
      const auto& value = std::get<decltype(column)::value>(columns);
      if constexpr (kColumn[decltype(column)::value].kind == Kind::kNumber) {
        *values++ = dataframe::convert<T>(value);
      } else {
        copy(value, values, 1);
        values += value.size();
      }
    };
    (put(std::integral_constant<std::size_t, kPlan.source[input].first + C>()), ...);
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
  void check_count(std::size_t found) const {
    constexpr std::size_t expected = dataframe::fixed_size(kInput[input]);
    if (found == expected) return;
    constexpr auto source = kPlan.source[input];
    std::string which = state_->label(source.first);
    if (source.count > 1) which += " to " + state_->label(source.first + source.count - 1);
    throw std::runtime_error(label(input) + " takes " + std::to_string(expected) + " values; " + which +
                             (source.count > 1 ? " give " : " gives ") + std::to_string(found));
  }

  /// `count` values of a column, from the one at `first` on; a number stands for each of them.
  template <class Value, class T>
  static void copy_part(const Value& value, std::size_t first, std::size_t count, T* to, std::size_t stride) {
    for (std::size_t i = 0; i < count; ++i) {
      if constexpr (std::is_arithmetic<Value>::value)
        to[i * stride] = dataframe::convert<T>(value);
      else
        to[i * stride] = dataframe::convert<T>(value[first + i]);
    }
  }

  /// Form::kObjects: column (a, b) to values[a, :, b], where the objects stand between the axes of a and of
  /// b.
  template <std::size_t input, class T, std::size_t... C>
  static void spread(T* values, const Tuple& columns, std::size_t length, std::index_sequence<C...>) {
    constexpr auto source = kPlan.source[input];
    constexpr std::size_t size = dataframe::extents(kInput[input], source.axis + 1, kInput[input].rank);
    constexpr std::size_t inner = size == 0 ? 1 : size;
    (copy_part(std::get<source.first + C>(columns), 0, length,
               values + C / inner * length * inner + C % inner, inner),
     ...);
  }

  /// Form::kFeatures: column k to values[:, k, :].
  template <std::size_t input, class T, std::size_t... C>
  static void interleave(T* values, const Tuple& columns, std::index_sequence<C...>) {
    constexpr auto source = kPlan.source[input];
    constexpr std::size_t outer = dataframe::extents(kInput[input], 0, source.axis);
    constexpr std::size_t inner = dataframe::extents(kInput[input], source.axis + 1, kInput[input].rank);
    const auto put = [&](const auto& value, std::size_t k) {
      if constexpr (inner == 1) {
        copy_part(value, 0, outer, values + k, source.count);
      } else {
        for (std::size_t a = 0; a < outer; ++a) {
          copy_part(value, a * inner, inner, values + (a * source.count + k) * inner, 1);
        }
      }
    };
    (put(std::get<source.first + C>(columns), C), ...);
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
  using List = ListOf<(IsGroup<Columns>::value || ...), Columns...>;
  using type = Functor<Session, runtime::Indices<typename Session::Outputs>, typename List::Counts,
                       typename List::Layouts, typename List::Types>;
};
template <class Session>
struct FunctorFor<Session> {
  using type = Functor<Session, runtime::Indices<typename Session::Outputs>, DefaultCounts<Session>,
                       Layouts<>, Defaults<Session>>;
};

}  // namespace dataframe
}  // namespace sofie
