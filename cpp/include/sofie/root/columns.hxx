// What the types of columns and inputs tell about them, and lists of columns' types.
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

#include "../core/runtime.hxx"

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

/// How several columns fill an input that has two or more axes besides the batch.
enum class Layout {
  kByShape,        // as many columns as one of the axes has elements: these are the features
  kFeaturesLast,   // column k is x[..., k]
  kFeaturesFirst,  // column k is x[k, ...] (after the batch)
  kConcatenate     // the values of all columns, one after the other
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

// ---------------------------------------------------------------------------------------------------------
// Lists of columns
// ---------------------------------------------------------------------------------------------------------

template <class... T>
struct Types {};

template <Layout... layouts>
struct Layouts {};

template <class T>
constexpr bool is_float16 = !std::is_arithmetic<T>::value;

/// The type of a tensor's element in a data frame: float for the 16-bit floats.
template <class T>
using Element = std::conditional_t<is_float16<T>, float, T>;

template <class... Lists>
struct Join {
  using type = Types<>;
};
template <class... First>
struct Join<Types<First...>> {
  using type = Types<First...>;
};
template <class... First, class... Second, class... Rest>
struct Join<Types<First...>, Types<Second...>, Rest...> : Join<Types<First..., Second...>, Rest...> {};

/// The columns of one input.
template <Layout chosen, class... Columns>
struct Group {
  using Types = dataframe::Types<Columns...>;
  static constexpr std::size_t count = sizeof...(Columns);
  static constexpr Layout layout = chosen;
};
template <class T>
struct IsGroup : std::false_type {};
template <Layout layout, class... Columns>
struct IsGroup<Group<layout, Columns...>> : std::true_type {};

/// A list of columns: their types, and for each input how many it takes and how (empty: to be deduced).
template <bool in_groups, class... Columns>
struct ListOf {
  using Types = dataframe::Types<Columns...>;
  using Counts = std::index_sequence<>;
  using Layouts = dataframe::Layouts<>;
};
template <class... Groups>
struct ListOf<true, Groups...> {
  static_assert((IsGroup<Groups>::value && ...), "either all columns are given by input, or none is");
  using Types = typename Join<typename Groups::Types...>::type;
  using Counts = std::index_sequence<Groups::count...>;
  using Layouts = dataframe::Layouts<Groups::layout...>;
};

template <class T, std::size_t... index>
Types<std::enable_if_t<(index >= 0), T>...> repeat(std::index_sequence<index...>);

/// Where the user names no columns. An input of n <= 64 values: n numbers. C <= 64 values per particle: C
/// arrays. Else one array.
template <class Input, std::int64_t batch>
struct DefaultColumns {
  using T = Element<typename Input::type>;
  static constexpr std::size_t size = fixed_size(input_facts<Input>());
  static constexpr std::size_t axes = free_axes(input_facts<Input>(), batch);
  static constexpr std::size_t count = size > 64 || axes > 1 ? 1 : size;
  using Item = std::conditional_t<(size > 64 || axes > 0), ROOT::VecOps::RVec<T>, T>;
  using type = decltype(repeat<Item>(std::make_index_sequence<count>()));
};

template <class Inputs>
struct DefaultsOf;
template <class... Inputs>
struct DefaultsOf<std::tuple<Inputs...>> {
  static constexpr std::int64_t batch =
      batch_symbol<sizeof...(Inputs)>(input_facts(static_cast<std::tuple<Inputs...>*>(nullptr)));
  using Types = typename Join<typename DefaultColumns<Inputs, batch>::type...>::type;
  using Counts = std::index_sequence<DefaultColumns<Inputs, batch>::count...>;
};

/// The column types of a Session where the user names none, and how many each input takes.
template <class Session>
using Defaults = typename DefaultsOf<typename Session::Inputs>::Types;
template <class Session>
using DefaultCounts = typename DefaultsOf<typename Session::Inputs>::Counts;

}  // namespace dataframe

/// The columns of one input: `SofieFunctor<Session, sofie::Columns<float, float>,
/// sofie::Columns<ROOT::RVecF>>`.
template <class... T>
using Columns = dataframe::Group<dataframe::Layout::kByShape, T...>;
/// The same, and column k is x[..., k] of the input.
template <class... T>
using FeaturesLast = dataframe::Group<dataframe::Layout::kFeaturesLast, T...>;
/// The same, and column k is x[k, ...] of the input, after its batch.
template <class... T>
using FeaturesFirst = dataframe::Group<dataframe::Layout::kFeaturesFirst, T...>;
/// The same, and the columns' values follow one another.
template <class... T>
using Concatenate = dataframe::Group<dataframe::Layout::kConcatenate, T...>;

}  // namespace sofie
