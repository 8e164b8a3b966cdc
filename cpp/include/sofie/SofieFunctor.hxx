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
// Columns are consumed in order by the model's inputs in order. What an input takes (a batch symbol, the
// leading one that all inputs share, counts as 1, and so does a leading size 1):
//   - A list of values, such as [N, 16] or [40, 21]: as many numbers, or arrays that hold as many together
//     (one after the other). An array of unknown length ends the input, unless the model has only one.
//   - A table, such as [N, 25, 4] or [1, 4, n_pf]: as many columns as one axis has elements (4), each with
//     one element per particle (25, or any number n_pf); a number among them stands for every particle. Or
//     one array that holds all values.
//   - Several symbols: one array that holds all values.
//   - Where every input is [N, ...] and gets one column per value, one of them an array at least, N is the
//     length of the arrays: the model is evaluated for each object of the event.
// Where that leaves a choice (25 columns for [N, 25, 25]), or fits in no way, the constructor refuses. The
// groups sofie::Columns, FeaturesLast, FeaturesFirst and Concatenate choose; there is one for each input:
//
//   SofieFunctor<Session, sofie::FeaturesLast<ROOT::RVecF, ROOT::RVecF>, sofie::Columns<float>> functor(n);
//
// A column may be a number, an RVec, a std::vector or a std::array. Integers fit floating-point inputs, but
// not the other way round. The result of one output is a number where it has one element and an RVec
// otherwise; of several outputs it is a std::tuple of these.
//
// An event that fails (arrays of a wrong length, an index out of range) throws std::runtime_error, whose
// message has the slot, the number of the event and the columns' values. With sofie::OnError::nan() or
// sofie::OnError::value(-1) the event gets that instead, functor.failed() counts such events, and a warning
// of ROOT's says how many there were when the last copy of the functor is gone. df.DefineSlotEntry("score",
// functor.with_entry(), columns) makes messages name the entry.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <string>
#include <vector>

#include "root/functor.hxx"

/// A generated Session as a callable for RDataFrame::DefineSlot; see the top of this file.
template <class Session, class... Columns>
class SofieFunctor : public sofie::dataframe::FunctorFor<Session, Columns...>::type {
  using Base = typename sofie::dataframe::FunctorFor<Session, Columns...>::type;

 public:
  /// See sofie::Functor. One Session per slot, which share the weights.
  explicit SofieFunctor(unsigned slots, const std::string& weights = {},
                        const std::vector<std::string>& labels = {},
                        sofie::OnError on_error = sofie::OnError::raise())
      : Base(slots, weights, labels, on_error) {}
};
