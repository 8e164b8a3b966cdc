// Which columns of a data frame make which input of a model: decided by types alone, at compile time, so that
// the loop over events has no decisions left. SofieFunctor.hxx has the rules.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <ROOT/RVec.hxx>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "runtime.hxx"

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
// Which columns make which input
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
// Column types where the user names none
// ---------------------------------------------------------------------------------------------------------

template <class... T>
struct Types {};

template <class T>
constexpr bool is_float16 = !std::is_arithmetic<T>::value;

/// The type of a tensor's element in a data frame: float for the 16-bit floats.
template <class T>
using Element = std::conditional_t<is_float16<T>, float, T>;

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
auto default_columns(std::tuple<Inputs...>*) -> typename AllDefaultColumns<
    batch_symbol<sizeof...(Inputs)>(input_facts(static_cast<std::tuple<Inputs...>*>(nullptr))),
    Inputs...>::type;

/// The column types of a Session where the user names none.
template <class Session>
using Defaults = decltype(default_columns(static_cast<typename Session::Inputs*>(nullptr)));

}  // namespace dataframe
}  // namespace sofie
