// What a custom operator (sofie_root.CppOp) works on: the elements of a tensor, and its shape.
//
// A generated header calls a function of yours with one Span per input and output. This class keeps its name
// in standalone headers, where everything else of namespace sofie is renamed: hence a guard instead of
// #pragma once, and nothing here that could change from version to version.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#ifndef SOFIE_SPAN_HXX
#define SOFIE_SPAN_HXX

#include <cstddef>
#include <initializer_list>

namespace sofie {

/// A tensor in row-major order: `Span<const float>` is read, `Span<float>` is written.
template <class T>
class Span {
 public:
  static constexpr std::size_t kMaxRank = 8;

  /// An optional input that the model leaves out: no elements, and data() is null.
  Span() = default;
  Span(T* data, std::initializer_list<std::size_t> shape) : data_(data), size_(1) {
    for (const std::size_t n : shape) {
      shape_[rank_++] = n;
      size_ *= n;
    }
  }

  T* data() const { return data_; }
  T* begin() const { return data_; }
  T* end() const { return data_ + size_; }
  /// Number of elements.
  std::size_t size() const { return size_; }
  /// Number of axes.
  std::size_t rank() const { return rank_; }
  /// Size of an axis.
  std::size_t dim(std::size_t axis) const { return shape_[axis]; }

  /// Element by its position in memory.
  T& operator[](std::size_t i) const { return data_[i]; }
  /// Element by one index per axis.
  template <class... Index>
  T& operator()(Index... index) const {
    std::size_t flat = 0, axis = 0;
    ((flat = flat * shape_[axis++] + static_cast<std::size_t>(index)), ...);
    return data_[flat];
  }

 private:
  T* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t rank_ = 0;
  std::size_t shape_[kMaxRank] = {};
};

}  // namespace sofie

#endif  // SOFIE_SPAN_HXX
