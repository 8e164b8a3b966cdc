// Runs a generated Session in an RDataFrame, one Session per processing slot:
//
//   #include "tagger.hxx"
//   #include <sofie/SofieFunctor.hxx>
//
//   SofieFunctor<TMVA_SOFIE_tagger::Session> functor(df.GetNSlots());          // 16 float columns, say
//   auto scored = df.DefineSlot("score", functor, {"pt", "eta", ...});
//
//   SofieFunctor<TMVA_SOFIE_tagger::Session, double, ROOT::RVecF> typed(n);    // columns of other types
//
// Columns are consumed in order by the model's inputs in order. What an input takes:
//   - a fixed size of n values (a batch symbol, the leading one that all inputs share, is 1): n numbers, or
//   arrays
//     that hold n values together. Of arrays without a fixed length one ends the input, unless the model has
//     one input;
//   - [1, C, n_pf] or [1, n_pf, C]: C arrays of equal length, which is n_pf; or one array that holds all
//   values;
//   - several symbols: one array that holds all values;
//   - where every input is [N, ...] and gets one array per value: N is the arrays' length, so that the model
//   is
//     evaluated for each object of the event.
// A column may be a number, an RVec, a std::vector or a std::array. Integers fit floating-point inputs, but
// not the other way round. The result of one output is a number where it has one element and an RVec
// otherwise; of several outputs it is a std::tuple of these.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <ROOT/RVec.hxx>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <sofie/runtime.hxx>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace sofie {
namespace dataframe {

// ---------------------------------------------------------------------------------------------------------
// Columns and inputs as constants
// ---------------------------------------------------------------------------------------------------------

enum class Kind { kNumber, kFixedArray, kArray, kUnsupported };

/// How a column's C++ type is read: its kind, element type, and size where the type fixes it.
template <class T, class = void>
struct Column {
  static constexpr Kind kind = Kind::kUnsupported;
  static constexpr std::size_t size = 0;
  using Value = float;
};
template <class T>
struct Column<T, std::enable_if_t<std::is_arithmetic<T>::value>> {
  static constexpr Kind kind = Kind::kNumber;
  static constexpr std::size_t size = 1;
  using Value = T;
};
template <class T, std::size_t n>
struct Column<std::array<T, n>, std::enable_if_t<std::is_arithmetic<T>::value>> {
  static constexpr Kind kind = Kind::kFixedArray;
  static constexpr std::size_t size = n;
  using Value = T;
};
template <class T>
struct Column<ROOT::VecOps::RVec<T>, std::enable_if_t<std::is_arithmetic<T>::value>> {
  static constexpr Kind kind = Kind::kArray;
  static constexpr std::size_t size = 0;
  using Value = T;
};
template <class T, class Allocator>
struct Column<std::vector<T, Allocator>, std::enable_if_t<std::is_arithmetic<T>::value>> {
  static constexpr Kind kind = Kind::kArray;
  static constexpr std::size_t size = 0;
  using Value = T;
};

struct ColumnFacts {
  Kind kind;
  std::size_t size;
  bool integral;
};

constexpr std::size_t kMaxRank = 16;
constexpr std::int64_t kNoSymbol = -1;

struct InputFacts {
  std::size_t rank;
  std::int64_t shape[kMaxRank];
  bool integral;
};

/// One more than the length where the list is empty, as arrays have no length zero.
constexpr std::size_t room(std::size_t size) { return size == 0 ? 1 : size; }

template <class... Columns>
constexpr std::array<ColumnFacts, room(sizeof...(Columns))> column_facts() {
  return {{ColumnFacts{Column<Columns>::kind, Column<Columns>::size,
                       std::is_integral<typename Column<Columns>::Value>::value}...}};
}

template <class Input>
constexpr InputFacts input_facts() {
  static_assert(Input::rank <= kMaxRank, "an input of more than 16 axes");
  InputFacts facts{Input::rank, {}, std::is_integral<typename Input::type>::value};
  for (std::size_t axis = 0; axis < Input::rank; ++axis) facts.shape[axis] = Input::shape[axis];
  return facts;
}

template <class... Inputs>
constexpr std::array<InputFacts, room(sizeof...(Inputs))> input_facts(std::tuple<Inputs...>*) {
  return {{input_facts<Inputs>()...}};
}

// ---------------------------------------------------------------------------------------------------------
// Which columns make which input: decided by the types, so that the loop over events has no decisions left
// ---------------------------------------------------------------------------------------------------------

enum class Layout {
  kValues,   // the values of all columns, one after the other
  kObjects,  // one array per value, all of one length, the size of the input's only symbol
  kWhole     // one array that holds all values of an input whose size varies
};

enum class Misfit { kNone, kTooFew, kTooMany, kType, kFraction, kNotArray, kExpression, kUnknownSize };

struct Source {
  std::size_t first = 0;  // its columns
  std::size_t count = 0;
  Layout layout = Layout::kValues;
};

template <std::size_t inputs>
struct Plan {
  Source source[room(inputs)];
  std::int64_t batch = kNoSymbol;  // the symbol that is 1
  Misfit misfit = Misfit::kNone;
  std::size_t input = 0;   // of the misfit
  std::size_t column = 0;  // of the misfit
  std::size_t found = 0;   // too few: how many values or arrays there are
};

/// Product of the sizes that are numbers.
constexpr std::size_t fixed_size(const InputFacts& input) {
  std::size_t size = 1;
  for (std::size_t axis = 0; axis < input.rank; ++axis) {
    if (input.shape[axis] >= 0) size *= static_cast<std::size_t>(input.shape[axis]);
  }
  return size;
}

/// Number of axes whose size is a symbol other than `batch`.
constexpr std::size_t free_axes(const InputFacts& input, std::int64_t batch) {
  std::size_t count = 0;
  for (std::size_t axis = 0; axis < input.rank; ++axis) {
    if (input.shape[axis] < 0 && -(input.shape[axis] + 1) != batch) ++count;
  }
  return count;
}

/// The symbol that leads every input and occurs nowhere else, if there is one.
template <std::size_t inputs, class Inputs>
constexpr std::int64_t batch_symbol(const Inputs& input) {
  if (inputs == 0 || input[0].rank == 0 || input[0].shape[0] >= 0 ||
      input[0].shape[0] == runtime::kExpression) {
    return kNoSymbol;
  }
  const std::int64_t leading = input[0].shape[0];
  for (std::size_t i = 0; i < inputs; ++i) {
    if (input[i].rank == 0 || input[i].shape[0] != leading) return kNoSymbol;
    for (std::size_t axis = 1; axis < input[i].rank; ++axis) {
      if (input[i].shape[axis] == leading) return kNoSymbol;
    }
  }
  return -(leading + 1);
}

/// One attempt. `counts` are the columns per input, where the caller says so (else null).
template <std::size_t inputs, std::size_t columns, std::size_t symbols, class Inputs, class Columns>
constexpr Plan<inputs> attempt(const Inputs& input, const Columns& column, const std::size_t* counts,
                               std::int64_t batch, bool whole) {
  Plan<inputs> plan;
  plan.batch = batch;
  std::size_t next = 0;
  for (std::size_t i = 0; i < inputs; ++i) {
    const std::size_t fixed = fixed_size(input[i]);
    const std::size_t axes = free_axes(input[i], batch);
    Source& source = plan.source[i];
    source.first = next;
    plan.input = i;
    for (std::size_t axis = 0; axis < input[i].rank; ++axis) {
      if (input[i].shape[axis] == runtime::kExpression) {
        plan.misfit = Misfit::kExpression;
        return plan;
      }
    }
    if (axes == 0) {
      std::size_t values = 0;
      bool open = false;  // whether a column's length is known only in the event
      while (counts != nullptr ? source.count < counts[i] && next < columns
                               : next < columns && (inputs == 1 || (values < fixed && !open))) {
        values += column[next].size;
        open = open || column[next].kind == Kind::kArray;
        ++source.count;
        ++next;
      }
      plan.found = values;
      if (!open && values < fixed) plan.misfit = Misfit::kTooFew;
      if (values > fixed) plan.misfit = Misfit::kTooMany;
    } else {
      const bool one = axes > 1 || (counts != nullptr ? counts[i] == 1 : whole);
      const std::size_t wanted = one ? 1 : fixed;
      source.layout = one && (axes > 1 || fixed != 1) ? Layout::kWhole : Layout::kObjects;
      source.count = counts != nullptr ? counts[i] : wanted;
      next += source.count;
      plan.found = next > columns ? columns - source.first : source.count;
      if (source.count < wanted || next > columns) plan.misfit = Misfit::kTooFew;
      if (source.count > wanted) plan.misfit = Misfit::kTooMany;
    }
    if (plan.misfit != Misfit::kNone) {
      plan.column = next < columns ? next : columns;
      return plan;
    }
  }
  if (next < columns) {
    plan.misfit = Misfit::kTooMany;
    plan.column = next;
    return plan;
  }
  for (std::size_t i = 0; i < inputs; ++i) {
    for (std::size_t c = plan.source[i].first; c < plan.source[i].first + plan.source[i].count; ++c) {
      plan.input = i;
      plan.column = c;
      if (input[i].integral && !column[c].integral)
        plan.misfit = Misfit::kFraction;
      else if (plan.source[i].layout != Layout::kValues && column[c].kind == Kind::kNumber)
        plan.misfit = Misfit::kNotArray;
      if (plan.misfit != Misfit::kNone) return plan;
    }
  }
  // Every symbol must follow from the arrays' lengths: at once, or from one equation after the others.
  bool known[room(symbols)] = {};
  if (batch != kNoSymbol) known[batch] = true;
  for (int round = 0; round < 2; ++round) {
    for (std::size_t i = 0; i < inputs; ++i) {
      if (round == 0 && plan.source[i].layout != Layout::kObjects && free_axes(input[i], batch) > 1) continue;
      std::int64_t unknown = kNoSymbol;
      for (std::size_t axis = 0; axis < input[i].rank; ++axis) {
        const std::int64_t symbol = -(input[i].shape[axis] + 1);
        if (symbol < 0 || known[symbol] || symbol == unknown) continue;
        if (unknown != kNoSymbol) {
          plan.input = i;
          plan.misfit = Misfit::kUnknownSize;
          return plan;
        }
        unknown = symbol;
      }
      if (unknown != kNoSymbol) known[unknown] = true;
    }
  }
  return plan;
}

/// The plan for these columns; its misfit says why there is none.
template <std::size_t inputs, std::size_t columns, std::size_t symbols, class Inputs, class Columns>
constexpr Plan<inputs> make_plan(const Inputs& input, const Columns& column, const std::size_t* counts) {
  for (std::size_t c = 0; c < columns; ++c) {
    if (column[c].kind != Kind::kUnsupported) continue;
    Plan<inputs> plan;
    plan.misfit = Misfit::kType;
    plan.column = c;
    return plan;
  }
  const std::int64_t batch = batch_symbol<inputs>(input);
  bool all_arrays = batch != kNoSymbol && columns > 0;
  for (std::size_t i = 0; i < inputs; ++i) all_arrays = all_arrays && free_axes(input[i], batch) == 0;
  for (std::size_t c = 0; c < columns; ++c) all_arrays = all_arrays && column[c].kind == Kind::kArray;
  if (all_arrays) {  // one array per value: the batch is what varies
    auto plan = attempt<inputs, columns, symbols>(input, column, counts, kNoSymbol, false);
    for (std::size_t i = 0; i < inputs; ++i) {
      if (plan.source[i].layout != Layout::kObjects) plan.misfit = Misfit::kTooFew;
    }
    if (plan.misfit == Misfit::kNone) return plan;
  }
  const auto plan = attempt<inputs, columns, symbols>(input, column, counts, batch, false);
  if (counts == nullptr && (plan.misfit == Misfit::kTooFew || plan.misfit == Misfit::kTooMany)) {
    const auto whole = attempt<inputs, columns, symbols>(input, column, counts, batch, true);
    if (whole.misfit != Misfit::kTooFew && whole.misfit != Misfit::kTooMany) return whole;
  }
  return plan;
}

/// The plan for a Session and columns of these types.
template <class Session, class... Columns, std::size_t... counts>
constexpr auto plan_for(std::index_sequence<counts...>) {
  using Inputs = typename Session::Inputs;
  const std::size_t given[] = {counts..., 0};
  return make_plan<std::tuple_size<Inputs>::value, sizeof...(Columns), Session::kSymbols>(
      input_facts(static_cast<Inputs*>(nullptr)), column_facts<Columns...>(),
      sizeof...(counts) > 0 ? given : nullptr);
}

/// "input 'pf_points' [N, 2, n_pf]".
template <class Session, class... Inputs>
std::string input_label(std::size_t input, std::tuple<Inputs...>*) {
  const char* names[] = {Inputs::name..., ""};
  const std::int64_t* shapes[] = {Inputs::shape..., nullptr};
  const std::size_t ranks[] = {Inputs::rank..., 0};
  std::string text = std::string("input '") + names[input] + "' [";
  for (std::size_t axis = 0; axis < ranks[input]; ++axis) {
    const std::int64_t size = shapes[input][axis];
    if (axis > 0) text += ", ";
    if (size == runtime::kExpression)
      text += "?";
    else if (size < 0)
      text += Session::kSymbolNames[-(size + 1)];
    else
      text += std::to_string(size);
  }
  return text + "]";
}

// ---------------------------------------------------------------------------------------------------------
// Events
// ---------------------------------------------------------------------------------------------------------

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

template <class T>
constexpr bool is_float16 = !std::is_arithmetic<T>::value;

/// The type of a tensor's element in a data frame: float for the 16-bit floats.
template <class T>
using Element = std::conditional_t<is_float16<T>, float, T>;

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

// ---------------------------------------------------------------------------------------------------------
// Column types where the user names none
// ---------------------------------------------------------------------------------------------------------

template <class... T>
struct Types {};

template <class First, class Second>
struct Join;
template <class... First, class... Second>
struct Join<Types<First...>, Types<Second...>> {
  using type = Types<First..., Second...>;
};

template <class T, std::size_t... index>
Types<std::enable_if_t<(index >= 0), T>...> repeat(std::index_sequence<index...>);

/// An input of n <= 64 values: n numbers. C <= 64 values per particle: C arrays. Else one array.
template <class Input, std::int64_t batch>
struct DefaultColumns {
  using T = Element<typename Input::type>;
  static constexpr std::size_t size = fixed_size(input_facts<Input>());
  static constexpr std::size_t axes = free_axes(input_facts<Input>(), batch);
  using type = std::conditional_t<(size > 64 || axes > 1), Types<ROOT::VecOps::RVec<T>>,
                                  decltype(repeat<std::conditional_t<axes == 0, T, ROOT::VecOps::RVec<T>>>(
                                      std::make_index_sequence<(size > 64 ? 1 : size)>()))>;
};

template <std::int64_t batch, class... Inputs>
struct AllDefaultColumns {
  using type = Types<>;
};
template <std::int64_t batch, class First, class... Rest>
struct AllDefaultColumns<batch, First, Rest...> {
  using type = typename Join<typename DefaultColumns<First, batch>::type,
                             typename AllDefaultColumns<batch, Rest...>::type>::type;
};

template <class... Inputs>
auto default_columns(std::tuple<Inputs...>* inputs) -> typename AllDefaultColumns<
    batch_symbol<sizeof...(Inputs)>(input_facts(static_cast<std::tuple<Inputs...>*>(nullptr))),
    Inputs...>::type;

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
                             " give " + std::to_string(found) + " in this event");
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

/// The column types of a Session where the user names none.
template <class Session>
using Defaults = decltype(default_columns(static_cast<typename Session::Inputs*>(nullptr)));

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

/// A generated Session as a callable for RDataFrame::DefineSlot; see the top of this file.
template <class Session, class... Columns>
class SofieFunctor : public sofie::dataframe::FunctorFor<Session, Columns...>::type {
  using Base = typename sofie::dataframe::FunctorFor<Session, Columns...>::type;

 public:
  /// See sofie::Functor. One Session per slot, which share the weights.
  explicit SofieFunctor(unsigned slots, const std::string& weights = {},
                        const std::vector<std::string>& labels = {})
      : Base(slots, weights, labels) {}
};
