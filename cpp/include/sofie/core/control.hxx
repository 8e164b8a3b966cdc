// What the bodies of branches and loops give back: tensors whose sizes are known only when they ran.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <type_traits>
#include <vector>

namespace sofie {

#ifdef SOFIE_GUARD_PAGES
template <class T>
using Elements = std::vector<T, GuardedAllocator<T>>;
#else
template <class T>
using Elements = std::vector<T>;
#endif

/// A tensor of R axes in memory that only grows.
template <class T, std::size_t R>
struct Result {
  std::ptrdiff_t dims[R ? R : 1] = {};

  Result() = default;

  T* data() { return reinterpret_cast<T*>(elements_.data()); }
  const T* data() const { return reinterpret_cast<const T*>(elements_.data()); }
  std::size_t size() const { return elements_.size(); }
  void resize(std::size_t count) { elements_.resize(count); }

  /// A copy of these elements, with these dimensions.
  void assign(const T* from, const std::ptrdiff_t (&shape)[R ? R : 1]) {
    std::size_t count = 1;
    for (std::size_t axis = 0; axis < R; ++axis) {
      dims[axis] = shape[axis];
      count *= static_cast<std::size_t>(shape[axis]);
    }
    elements_.resize(count);
    std::copy_n(from, count, data());
  }

  /// Nothing yet of a stack along the first axis.
  void start(const std::ptrdiff_t (&shape)[R ? R : 1]) {
    elements_.clear();
    for (std::size_t axis = 0; axis < R; ++axis) dims[axis] = shape[axis];
    dims[0] = 0;
  }

  /// One more entry along the first axis.
  template <std::size_t Q>
  void append(const Result<T, Q>& item) {
    static_assert(Q + 1 == R, "an entry has one axis less than the stack");
    for (std::size_t axis = 0; axis < Q; ++axis) {
      if (dims[0] != 0 && dims[axis + 1] != item.dims[axis]) {
        throw std::runtime_error("the iterations of a loop give tensors of different shapes");
      }
      dims[axis + 1] = item.dims[axis];
    }
    const std::size_t before = size();
    elements_.resize(before + item.size());
    std::copy_n(item.data(), item.size(), data() + before);
    ++dims[0];
  }

  void swap(Result& other) {
    elements_.swap(other.elements_);
    std::swap_ranges(dims, dims + (R ? R : 1), other.dims);
  }

 private:
  // std::vector<bool> has no elements to point at.
  Elements<std::conditional_t<std::is_same<T, bool>::value, unsigned char, T>> elements_;
};

}  // namespace sofie
