// Which columns of a data frame make which input of a model: decided by types alone, at compile time, so that
// the loop over events has no decisions left. SofieFunctor.hxx has the rules.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "columns.hxx"

namespace sofie {
namespace dataframe {

/// How columns make an input, once that is decided.
enum class Form {
  kValues,    // the values of all columns, one after the other
  kObjects,   // column (a, b) is x[a, :, b]: all axes but `axis` count the columns
  kFeatures,  // column k is x[:, k, :]: `axis` counts the columns
  kWhole      // as kValues, for an input whose size varies
};

enum class Misfit {
  kNone,
  kTooFew,
  kTooMany,
  kType,
  kFraction,
  kNotArray,
  kExpression,
  kUnknownSize,
  kNoReading,    // no axis has as many elements as there are columns
  kTwoReadings,  // several have
  kLayout,       // the chosen layout does not fit
  kLength,       // an array of fixed length has another length than its input needs
  kDivision      // several inputs can share the columns in more than one way
};

struct Source {
  std::size_t first = 0;  // its columns
  std::size_t count = 0;
  Form form = Form::kValues;
  std::size_t axis = 0;              // see Form
  std::size_t measured = 0;          // the first of its columns that is an array, whose length counts
  Layout layout = Layout::kByShape;  // as chosen
  constexpr std::size_t end() const { return first + count; }
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

/// Size of an axis; 1 where it is the batch.
constexpr std::size_t extent(const InputFacts& input, std::size_t axis) {
  return input.shape[axis] < 0 ? 1 : static_cast<std::size_t>(input.shape[axis]);
}

/// Product of the sizes of the axes from `first` to before `last`, a symbol counting as 1.
constexpr std::size_t extents(const InputFacts& input, std::size_t first, std::size_t last) {
  std::size_t size = 1;
  for (std::size_t axis = first; axis < last; ++axis) size *= extent(input, axis);
  return size;
}

/// Whether an axis has a size of its own: not the batch, not 1.
constexpr bool is_wide(const InputFacts& input, std::size_t axis, std::int64_t batch) {
  return input.shape[axis] < 0 ? -(input.shape[axis] + 1) != batch : input.shape[axis] != 1;
}

/// Number of such axes.
constexpr std::size_t wide_axes(const InputFacts& input, std::int64_t batch) {
  std::size_t count = 0;
  for (std::size_t axis = 0; axis < input.rank; ++axis) count += is_wide(input, axis, batch);
  return count;
}

/// Whether columns of arrays fill an input of fixed size as a table, one column per element of an axis; an
/// input of two axes, the batch included, is a list of values unless the user chose otherwise.
constexpr bool is_table(const InputFacts& input, std::int64_t batch, Layout layout) {
  if (layout == Layout::kConcatenate || wide_axes(input, batch) < 2) return false;
  return layout != Layout::kByShape || input.rank > 2;
}

/// The axis that counts the columns where the user chose so: the last one, or the first after the batch.
constexpr std::size_t chosen_axis(const InputFacts& input, std::int64_t batch, Layout layout) {
  if (layout == Layout::kFeaturesLast) return input.rank - 1;
  return input.rank > 1 && !is_wide(input, 0, batch) ? 1 : 0;
}

constexpr bool is_array(const ColumnFacts& column) {
  return column.kind == Kind::kArray || column.kind == Kind::kFixedArray;
}

/// How many columns from `first` on a list of values takes; an array of unknown length ends it.
template <class Columns>
constexpr std::size_t count_values(const Columns& column, std::size_t columns, std::size_t first,
                                   std::size_t size) {
  std::size_t values = 0, next = first;
  bool open = false;
  while (next < columns && values < size && !open) {
    values += column[next].size;
    open = column[next].kind == Kind::kArray;
    ++next;
  }
  return next - first;
}

/// Calls `add(count)` for each number of columns that an input of fixed size could take from `first` on as a
/// table: one per element of one axis, or of all but one.
template <class Add>
constexpr void table_counts(const InputFacts& input, std::int64_t batch, Layout layout, const Add& add) {
  if (layout == Layout::kFeaturesLast || layout == Layout::kFeaturesFirst) {
    const std::size_t axis = chosen_axis(input, batch, layout);
    return add(Form::kFeatures, axis, extent(input, axis));
  }
  const std::size_t size = fixed_size(input);
  const bool more = wide_axes(input, batch) > 2;  // else "all but one" is the other one
  for (std::size_t axis = 0; axis < input.rank; ++axis) {
    if (!is_wide(input, axis, batch)) continue;
    add(Form::kFeatures, axis, extent(input, axis));
    if (more && size > 0) add(Form::kObjects, axis, size / extent(input, axis));
  }
}

/// Reads the columns of one input: sets the source's form, or returns why there is none.
template <class Columns>
constexpr Misfit read_input(const InputFacts& input, const Columns& column, std::int64_t batch,
                            Source& source, std::size_t& misfit_column, std::size_t& found) {
  const std::size_t fixed = fixed_size(input), axes = free_axes(input, batch);
  std::size_t values = 0, arrays = 0, excess = source.end();
  bool open = false;  // whether a length is known only in the event
  for (std::size_t c = source.first; c < source.end(); ++c) {
    values += column[c].size;
    open = open || column[c].kind == Kind::kArray;
    if (is_array(column[c]) && arrays++ == 0) source.measured = c;
    if (values > fixed && excess == source.end()) excess = c;
  }
  misfit_column = source.first;
  const bool concatenates = source.layout == Layout::kConcatenate;
  const bool table = is_table(input, batch, source.layout) && source.count > 1 && arrays > 0;
  if (axes == 0 && !table) {
    source.form = Form::kValues;
    found = values;
    misfit_column = excess;
    return values > fixed ? Misfit::kTooMany : !open && values < fixed ? Misfit::kTooFew : Misfit::kNone;
  }
  found = source.count;
  if (axes == 0) {
    std::size_t readings = 0;
    table_counts(input, batch, source.layout, [&](Form form, std::size_t axis, std::size_t count) {
      if (count != source.count) return;
      ++readings;
      source.form = form;
      source.axis = axis;
    });
    if (readings > 1) return Misfit::kTwoReadings;
    if (readings == 0) return source.layout == Layout::kByShape ? Misfit::kNoReading : Misfit::kLayout;
  } else if (concatenates ? source.count > 0 : source.count == 1 && (axes > 1 || fixed != 1)) {
    source.form = Form::kWhole;
    if (arrays == 0) return Misfit::kNotArray;
  } else {
    const std::size_t wanted = axes > 1 || concatenates ? 1 : fixed;
    if (axes == 1 && source.layout != Layout::kByShape) {
      const std::size_t axis = chosen_axis(input, batch, source.layout);
      if (!is_wide(input, axis, batch) ? fixed != 1 : extent(input, axis) != fixed) return Misfit::kLayout;
    }
    misfit_column = source.first + wanted;
    if (source.count != wanted) return source.count < wanted ? Misfit::kTooFew : Misfit::kTooMany;
    misfit_column = source.first;
    source.form = Form::kObjects;
    for (std::size_t axis = 0; axis < input.rank; ++axis) {
      if (input.shape[axis] < 0 && is_wide(input, axis, batch)) source.axis = axis;
    }
    if (arrays == 0) return Misfit::kNotArray;
  }
  return Misfit::kNone;
}

/// Number of elements that each column of an input of fixed size must have.
constexpr std::size_t column_length(const InputFacts& input, const Source& source) {
  const std::size_t size = extent(input, source.axis);
  return source.form == Form::kObjects ? size : size == 0 ? 0 : fixed_size(input) / size;
}

/// Divides the columns among several inputs: the only way in which each gets as many as it can take. Returns
/// the number of ways; 2 stands for more, too.
template <std::size_t inputs, std::size_t columns, class Inputs, class Columns>
constexpr int divide(const Inputs& input, const Columns& column, const Layout* layout, std::int64_t batch,
                     Plan<inputs>& plan) {
  int ways[inputs + 1][columns + 1] = {};
  std::size_t taken[inputs + 1][columns + 1] = {};  // by the last input on the way there
  std::size_t arrays[columns + 1] = {};             // among the columns before
  for (std::size_t c = 0; c < columns; ++c) arrays[c + 1] = arrays[c] + is_array(column[c]);
  ways[0][0] = 1;
  for (std::size_t i = 0; i < inputs; ++i) {
    const std::size_t fixed = fixed_size(input[i]), axes = free_axes(input[i], batch);
    const bool table = axes == 0 && is_table(input[i], batch, layout[i]);
    for (std::size_t c = 0; c <= columns; ++c) {
      if (ways[i][c] == 0) continue;
      std::size_t added[2 * kMaxRank + 2] = {}, count = 0;
      const auto add = [&](std::size_t number) {
        for (std::size_t k = 0; k < count; ++k) {
          if (added[k] == number) return;
        }
        added[count++] = number;
        if (c + number > columns) return;
        const int sum = ways[i + 1][c + number] + ways[i][c];
        ways[i + 1][c + number] = sum > 2 ? 2 : sum;
        taken[i + 1][c + number] = number;
      };
      if (axes > 0) {
        add(1);
        if (axes == 1 && layout[i] != Layout::kConcatenate) add(fixed);
        continue;
      }
      const std::size_t listed = count_values(column, columns, c, fixed);
      if (!table) {
        add(listed);
        continue;
      }
      if (arrays[c + listed] == arrays[c]) add(listed);
      if (c < columns && is_array(column[c])) add(1);
      table_counts(input[i], batch, layout[i], [&](Form, std::size_t, std::size_t number) {
        if (c + number <= columns && arrays[c + number] > arrays[c]) add(number);
      });
    }
  }
  std::size_t next = columns;
  for (std::size_t i = inputs; ways[inputs][columns] > 0 && i-- > 0;) {
    plan.source[i].count = taken[i + 1][next];
    next -= plan.source[i].count;
  }
  return ways[inputs][columns];
}

/// What each input would take if it came to it, for a message that says what is missing or too much. Returns
/// whether there are enough arrays; else the plan says what lacks them.
template <std::size_t inputs, std::size_t columns, class Inputs, class Columns>
constexpr bool suppose(const Inputs& input, const Columns& column, std::int64_t batch, Plan<inputs>& plan) {
  std::size_t next = 0;
  for (std::size_t i = 0; i < inputs; ++i) {
    const std::size_t axes = free_axes(input[i], batch), left = columns - next;
    const bool starts_table =
        is_table(input[i], batch, plan.source[i].layout) && left > 0 && is_array(column[next]);
    std::size_t count = axes == 1 ? fixed_size(input[i]) : 1;
    if (axes == 0 && !starts_table) count = count_values(column, columns, next, fixed_size(input[i]));
    if (count > left) {
      plan.misfit = Misfit::kTooFew;
      plan.input = i;
      plan.found = left;
      return false;
    }
    plan.source[i].count = count;
    next += count;
  }
  return true;
}

/// One evaluation per object, where every input is [N, ...] and gets one column per value: N is the arrays'
/// length, and a number stands for each object.
template <std::size_t inputs, std::size_t columns, class Inputs, class Columns>
constexpr bool is_per_object(const Inputs& input, const Columns& column, const std::size_t* counts,
                             const Layout* layout, std::int64_t batch) {
  std::size_t needed = 0, values = 0, arrays = 0;
  bool open = false;
  if (batch == kNoSymbol) return false;
  for (std::size_t i = 0; i < inputs; ++i) {
    const std::size_t fixed = fixed_size(input[i]);
    if (free_axes(input[i], batch) > 0 || layout[i] == Layout::kConcatenate) return false;
    if (counts != nullptr && counts[i] != fixed) return false;
    needed += fixed;
  }
  for (std::size_t c = 0; c < columns; ++c) {
    values += column[c].size;
    arrays += is_array(column[c]);
    open = open || column[c].kind == Kind::kArray;
  }
  return needed == columns && arrays > 0 && (open || values != needed);
}

/// Whether every symbol follows from the arrays' lengths: at once, or from one equation after the others.
template <std::size_t inputs, std::size_t symbols, class Inputs>
constexpr bool knows_sizes(const Inputs& input, Plan<inputs>& plan) {
  bool known[room(symbols)] = {};
  if (plan.batch != kNoSymbol) known[plan.batch] = true;
  for (int round = 0; round < 2; ++round) {
    for (std::size_t i = 0; i < inputs; ++i) {
      if (round == 0 && free_axes(input[i], plan.batch) > 1) continue;
      std::int64_t unknown = kNoSymbol;
      for (std::size_t axis = 0; axis < input[i].rank; ++axis) {
        const std::int64_t symbol = -(input[i].shape[axis] + 1);
        if (symbol < 0 || known[symbol] || symbol == unknown) continue;
        if (unknown != kNoSymbol) {
          plan.input = i;
          return false;
        }
        unknown = symbol;
      }
      if (unknown != kNoSymbol) known[unknown] = true;
    }
  }
  return true;
}

/// The plan for these columns; its misfit says why there is none. `counts` are the columns per input, where
/// the caller says so (else null).
template <std::size_t inputs, std::size_t columns, std::size_t symbols, class Inputs, class Columns>
constexpr Plan<inputs> make_plan(const Inputs& input, const Columns& column, const std::size_t* counts,
                                 const Layout* layout) {
  Plan<inputs> plan;
  const auto refuse = [&plan](Misfit misfit, std::size_t at_input, std::size_t at_column) {
    plan.misfit = misfit;
    plan.input = at_input;
    plan.column = at_column;
    return plan;
  };
  for (std::size_t c = 0; c < columns; ++c) {
    if (column[c].kind == Kind::kUnsupported) return refuse(Misfit::kType, 0, c);
  }
  for (std::size_t i = 0; i < inputs; ++i) {
    plan.source[i].layout = layout[i];
    for (std::size_t axis = 0; axis < input[i].rank; ++axis) {
      if (input[i].shape[axis] == runtime::kExpression) return refuse(Misfit::kExpression, i, 0);
    }
  }
  const std::int64_t batch = batch_symbol<inputs>(input);
  const bool per_object = is_per_object<inputs, columns>(input, column, counts, layout, batch);
  plan.batch = per_object ? kNoSymbol : batch;
  if (per_object || counts != nullptr) {
    for (std::size_t i = 0; i < inputs; ++i) {
      plan.source[i].count = per_object ? fixed_size(input[i]) : counts[i];
    }
  } else if (inputs == 1) {
    plan.source[0].count = columns;
  } else {
    const int ways = divide<inputs, columns>(input, column, layout, batch, plan);
    if (ways > 1) return refuse(Misfit::kDivision, 0, 0);
    if (ways == 0 && !suppose<inputs, columns>(input, column, batch, plan)) return plan;
  }
  std::size_t next = 0;
  for (std::size_t i = 0; i < inputs; ++i) {
    Source& source = plan.source[i];
    source.first = next;
    if (next + source.count > columns) source.count = columns - next;
    next = source.end();
    std::size_t at = 0;
    if (per_object) {
      source.form = Form::kObjects;
      source.axis = 0;
      source.measured = source.end();
      for (std::size_t c = source.end(); c-- > source.first;) {
        if (is_array(column[c])) source.measured = c;
      }
    } else {
      const Misfit misfit = read_input(input[i], column, batch, source, at, plan.found);
      if (misfit != Misfit::kNone) return refuse(misfit, i, at);
    }
  }
  if (next < columns) return refuse(Misfit::kTooMany, inputs > 0 ? inputs - 1 : 0, next);
  std::size_t objects = columns;  // a column whose length is the number of objects
  for (std::size_t i = 0; i < inputs; ++i) {
    const Source& source = plan.source[i];
    const bool varies = source.form == Form::kObjects && free_axes(input[i], plan.batch) > 0;
    if (!per_object) objects = columns;
    for (std::size_t c = source.first; c < source.end(); ++c) {
      if (input[i].integral && !column[c].integral) return refuse(Misfit::kFraction, i, c);
      if (column[c].kind != Kind::kFixedArray || source.form == Form::kValues ||
          source.form == Form::kWhole) {
        continue;
      }
      if (varies ? objects != columns && column[objects].size != column[c].size
                 : column[c].size != column_length(input[i], source)) {
        return refuse(Misfit::kLength, i, c);
      }
      objects = c;
    }
  }
  if (!knows_sizes<inputs, symbols>(input, plan)) plan.misfit = Misfit::kUnknownSize;
  return plan;
}

/// The plan for a Session and columns of these types.
template <class Session, class... Columns, std::size_t... counts, Layout... layouts>
constexpr auto plan_for(std::index_sequence<counts...>, Layouts<layouts...>) {
  using Inputs = typename Session::Inputs;
  constexpr std::size_t inputs = std::tuple_size<Inputs>::value;
  static_assert(sizeof...(counts) == 0 || sizeof...(counts) == inputs, "one group of columns for each input");
  const std::size_t given[] = {counts..., 0};
  const Layout chosen[] = {layouts..., Layout::kByShape};
  Layout layout[room(inputs)] = {};
  for (std::size_t i = 0; i < inputs; ++i) layout[i] = i < sizeof...(layouts) ? chosen[i] : Layout::kByShape;
  return make_plan<inputs, sizeof...(Columns), Session::kSymbols>(
      input_facts(static_cast<Inputs*>(nullptr)), column_facts<Columns...>(),
      sizeof...(counts) > 0 ? given : nullptr, layout);
}

// ---------------------------------------------------------------------------------------------------------
// In words
// ---------------------------------------------------------------------------------------------------------

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

/// What an input takes, in words.
inline std::string takes(const InputFacts& facts, std::int64_t batch) {
  const std::size_t fixed = fixed_size(facts), axes = free_axes(facts, batch);
  const std::string one = "one array that holds all its values";
  if (axes > 1) return one;
  if (axes == 1) {
    return std::to_string(fixed) + (fixed == 1 ? " array" : " arrays of equal length, or " + one);
  }
  if (wide_axes(facts, batch) < 2) return std::to_string(fixed) + (fixed == 1 ? " value" : " values");
  std::string text;
  for (std::size_t axis = 0; axis < facts.rank; ++axis) {
    if (!is_wide(facts, axis, batch)) continue;
    text += (text.empty() ? "" : " or ") + std::to_string(extent(facts, axis)) + " arrays of " +
            std::to_string(extent(facts, axis) == 0 ? 0 : fixed / extent(facts, axis));
  }
  return text + " values, or " + one;
}

/// Why columns cannot feed a model.
template <class Session, std::size_t inputs, std::size_t columns, class Inputs>
std::string explain(const Plan<inputs>& plan, const Inputs& facts, const std::string (&label)[columns]) {
  const std::string input =
      inputs == 0 ? "the model"
                  : input_label<Session>(plan.input, static_cast<typename Session::Inputs*>(nullptr));
  const std::string wanted = inputs == 0 ? "no columns" : takes(facts[plan.input], plan.batch);
  const std::string& column = label[plan.column < columns ? plan.column : columns - 1];
  const std::string count = std::to_string(plan.source[plan.input].count);
  switch (plan.misfit) {
    case Misfit::kNone:
      return {};
    case Misfit::kTooFew:
      return input + " takes " + wanted + "; the columns give " + std::to_string(plan.found);
    case Misfit::kTooMany:
      return column + " is one too many: " + input + " takes " + wanted;
    case Misfit::kType:
      return column + " is neither a number nor an array of numbers";
    case Misfit::kFraction:
      return column + " is not of an integer type, as " + input +
             " is: its fraction would be lost; convert it in a Define";
    case Misfit::kNotArray:
      return column + " is one number, but " + input + " takes " + wanted;
    case Misfit::kExpression:
      return input + " has a size that does not follow from columns; fix the model's dims when it is loaded";
    case Misfit::kUnknownSize:
      return input +
             " has more than one size that does not follow from the columns' lengths; fix the model's dims "
             "when it is loaded";
    case Misfit::kNoReading:
      return input + " takes " + wanted + ", and there are " + count +
             R"( columns: layout="concatenate" (in C++ sofie::Concatenate<...>) puts them one after the other)";
    case Misfit::kTwoReadings:
      return count + " columns fill " + input +
             R"( in more than one way: choose with layout="features last" (column k is x[..., k]; in C++ )"
             R"(sofie::FeaturesLast<...>), "features first" (x[k, ...]; sofie::FeaturesFirst<...>) or )"
             R"("concatenate" (one after the other; sofie::Concatenate<...>))";
    case Misfit::kLayout:
      return count + " columns do not fill " + input + " in the chosen layout: it takes " + wanted;
    case Misfit::kLength:
      return column + " has another length than " + input + " needs, which takes " + wanted;
    case Misfit::kDivision:
      return R"(the inputs can share the columns in more than one way: list them by input, {"x": [...], ...})"
             " (in C++ sofie::Columns<...> for each input)";
  }
  return {};
}

}  // namespace dataframe
}  // namespace sofie
