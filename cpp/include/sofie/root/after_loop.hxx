// The warning about events that failed, at the end of a loop over events instead of when the functor is gone.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <ROOT/RDataFrame.hxx>
#include <memory>
#include <utility>

#include "event_errors.hxx"

namespace sofie {
namespace dataframe {

/// Reports when it is destroyed. It does not own the failures: these are part of the data frame that owns it.
class ReportAtEnd {
 public:
  explicit ReportAtEnd(std::weak_ptr<Failures> failures) : failures_(std::move(failures)) {}
  ReportAtEnd(const ReportAtEnd&) = delete;
  ReportAtEnd& operator=(const ReportAtEnd&) = delete;
  ~ReportAtEnd() {
    if (const auto failures = failures_.lock()) failures->report();
  }

 private:
  std::weak_ptr<Failures> failures_;
};

/// Warns at the end of the next loop over a data frame's events (of later ones when the functor is gone).
template <class Functor>
void warn_after_loop(const ROOT::RDF::RNode& df, const Functor& functor) {
  struct Node : ROOT::RDF::RNode {
    explicit Node(const ROOT::RDF::RNode& node) : ROOT::RDF::RNode(node) {}
    using ROOT::RDF::RNode::GetLoopManager;
  };
  // A callback that is called once per slot and does nothing: a loop drops its callbacks when it ends. Unlike
  // an action, it costs nothing per event, needs no column, and does not keep a loop running that has a
  // Range.
  const auto report = std::make_shared<ReportAtEnd>(functor.failures());
  Node(df).GetLoopManager()->RegisterCallback(0, [report](unsigned) {});
}

}  // namespace dataframe
}  // namespace sofie
