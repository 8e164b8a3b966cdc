// What becomes of events that fail in a data frame: who failed and on what, what stands in for the result,
// and how many there were.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <TError.h>

#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <mutex>
#include <sstream>
#include <string>
#include <type_traits>

#include "columns.hxx"

namespace sofie {

/// What an event that fails becomes: an exception that ends the job, or a value that stands in for the
/// result.
class OnError {
 public:
  static OnError raise() { return {true, 0}; }
  static OnError nan() { return {false, std::numeric_limits<double>::quiet_NaN()}; }
  static OnError value(double value) { return {false, value}; }

  bool raises() const { return raises_; }
  double value() const { return value_; }
  /// Whether an output of this type can hold the value.
  template <class T>
  bool fits() const {
    if constexpr (std::is_same<T, bool>::value) {
      return raises_ || value_ == 0 || value_ == 1;
    } else if constexpr (std::is_integral<T>::value) {
      using Limits = std::numeric_limits<T>;
      // One more than the largest integer is a power of two, which a double holds.
      const double end = 2 * static_cast<double>(Limits::max() / 2 + 1);
      return raises_ ||
             (value_ == std::floor(value_) && value_ >= static_cast<double>(Limits::min()) && value_ < end);
    } else {
      return true;
    }
  }

 private:
  OnError(bool raises, double value) : raises_(raises), value_(value) {}
  bool raises_;
  double value_;
};

namespace dataframe {

/// Counts the events of one slot. Only that slot writes; anybody may read.
class Counter {
 public:
  std::uint64_t get() const { return count_.load(std::memory_order_relaxed); }
  /// The number before this event.
  std::uint64_t next() {
    const std::uint64_t before = get();
    count_.store(before + 1, std::memory_order_relaxed);
    return before;
  }

 private:
  std::atomic<std::uint64_t> count_{0};
};

/// What all copies of a functor know together about failed events; warns once of those it has not yet.
class Failures {
 public:
  explicit Failures(OnError on_error) : on_error_(on_error) {}
  virtual ~Failures() = default;

  const OnError& on_error() const { return on_error_; }
  virtual std::uint64_t failed() const = 0;
  virtual std::uint64_t events() const = 0;

  /// Keeps the first message.
  void remember(const std::string& message) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (first_.empty()) first_ = message;
  }

  /// One warning about the events that failed since the last one.
  void report() {
    const std::lock_guard<std::mutex> lock(mutex_);
    const std::uint64_t total = failed(), seen = events();
    if (total == failed_before_) return;
    std::ostringstream text;
    text << total - failed_before_ << " of " << seen - events_before_ << " events failed and got "
         << on_error_.value() << "; the first: " << first_;
    failed_before_ = total;
    events_before_ = seen;
    first_.clear();
    ::Warning("SofieFunctor", "%s", text.str().c_str());
  }

 private:
  const OnError on_error_;
  std::mutex mutex_;
  std::string first_;
  std::uint64_t failed_before_ = 0, events_before_ = 0;  // the last warning
};

/// Appends "; column 'pf_x' (RVec<float>) has 5 values: 1, 2, 3, ...".
template <class T>
void describe(std::ostream& text, const std::string& label, const T& value) {
  constexpr std::size_t shown = 3;
  if constexpr (Column<T>::kind == Kind::kNumber) {
    text << "; " << label << " = " << +value;
  } else {
    const std::size_t size = value.size();
    text << "; " << label << " has " << size << (size == 1 ? " value" : " values");
    for (std::size_t i = 0; i < size && i < shown; ++i) {
      text << (i == 0 ? ": " : ", ") << +static_cast<typename Column<T>::Value>(value[i]);
    }
    if (size > shown) text << ", ...";
  }
}

}  // namespace dataframe
}  // namespace sofie
