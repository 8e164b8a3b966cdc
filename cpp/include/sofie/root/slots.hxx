// What the copies of a functor share: one Session per slot of a data frame, with its memory and its counters.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include "../core/runtime.hxx"
#include "event_errors.hxx"

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
  Counter events;
  Counter failed;
  Session session;
  typename Buffers<typename Session::Inputs>::Flat inputs;
  typename Buffers<typename Session::Outputs>::Flat outputs;     // of 16-bit floats
  typename Buffers<typename Session::Outputs>::Vectors vectors;  // of dynamic outputs
};

/// What all copies of a functor share.
template <class Session>
class Slots : public Failures {
 public:
  Slots(unsigned count, const std::string& weights, const std::vector<std::string>& names, OnError on_error)
      : Failures(on_error), slots_(), labels_(names) {
    for (unsigned slot = 0; slot < count; ++slot) slots_.push_back(make(weights));
  }
  ~Slots() override { report(); }

  Slot<Session>& slot(unsigned number) const {
    if (number < slots_.size()) return *slots_[number];
    throw std::runtime_error(
        "this functor was made for " + std::to_string(slots_.size()) +
        " slots, and the data frame uses more: make it after ROOT::EnableImplicitMT, with df.GetNSlots()");
  }
  std::string label(std::size_t column) const {
    return column < labels_.size() ? labels_[column] : "column " + std::to_string(column);
  }
  std::uint64_t failed() const override { return sum(&Slot<Session>::failed); }
  std::uint64_t events() const override { return sum(&Slot<Session>::events); }

 private:
  static std::unique_ptr<Slot<Session>> make(const std::string& weights) {
    if constexpr (std::is_constructible<Session, std::string>::value) {
      if (!weights.empty()) return std::make_unique<Slot<Session>>(weights);
    }
    return std::make_unique<Slot<Session>>();
  }
  std::uint64_t sum(Counter Slot<Session>::* counter) const {
    std::uint64_t total = 0;
    for (const auto& slot : slots_) total += (slot.get()->*counter).get();
    return total;
  }

  std::vector<std::unique_ptr<Slot<Session>>> slots_;
  std::vector<std::string> labels_;
};

}  // namespace dataframe
}  // namespace sofie
