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
//   - Where its size is fixed (a batch symbol, the leading one that all inputs share, counts as 1): as many
//     numbers, or arrays that hold as many together. An array of unknown length ends the input, unless the
//     model has only one.
//   - [1, C, n_pf] or [1, n_pf, C]: C arrays of n_pf elements; or one array that holds all values.
//   - Several symbols: one array that holds all values.
//   - Where every input is [N, ...] and gets one array per value, N is the length of the arrays: the model is
//     evaluated for each object of the event.
// A column may be a number, an RVec, a std::vector or a std::array. Integers fit floating-point inputs, but
// not the other way round. The result of one output is a number where it has one element and an RVec
// otherwise; of several outputs it is a std::tuple of these.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <string>
#include <vector>

#include "functor.hxx"

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
