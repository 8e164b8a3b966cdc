// What a generated Session is made of: its arena, run-time sizes, and checked indices.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <type_traits>

namespace sofie {

/// Where a constant without elements begins. The loops over it have no iterations, but their text adds an
/// index, which compilers warn of where they see that the pointer is null.
template <class T>
inline const T* no_elements() {
  return nullptr;
}

#ifndef SOFIE_GUARD_PAGES  // tests have another Arena, of guarded.hxx, which they include before
/// Memory for temporaries, 64-byte aligned; it only grows, so a warm Session never allocates.
class Arena {
 public:
  Arena() = default;
  explicit Arena(std::size_t bytes) { reserve(bytes); }

  /// Makes room for this many bytes; the content is lost where it has to grow.
  void reserve(std::size_t bytes) {
    if (bytes <= size_) return;
    memory_.reset();
    size_ = 0;
    memory_.reset(static_cast<unsigned char*>(::operator new(bytes, std::align_val_t{64})));
    size_ = bytes;
  }
  /// The elements that start at this byte.
  template <class T>
  T* at(std::size_t offset) const {
    return reinterpret_cast<T*>(memory_.get() + offset);
  }
  std::size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(unsigned char* p) const { ::operator delete(p, std::align_val_t{64}); }
  };
  std::unique_ptr<unsigned char, Free> memory_;
  std::size_t size_ = 0;
};
#endif

/// floor(a / b) of sizes and indices; 0 for b == 0, which only the sizes of empty tensors meet.
constexpr std::ptrdiff_t floordiv(std::ptrdiff_t a, std::ptrdiff_t b) {
  if (b == 0) return 0;
  const std::ptrdiff_t q = a / b;
  return a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
}

/// An index read from a tensor: counts from the end where negative; throws where it is outside the axis.
template <class T>
inline std::ptrdiff_t index(T value, std::ptrdiff_t extent) {
  static_assert(std::is_integral<T>::value, "an index is an integer");
  std::ptrdiff_t i = static_cast<std::ptrdiff_t>(value);
  if (i < 0) i += extent;
  if (i < 0 || i >= extent) {
    throw std::out_of_range("index " + std::to_string(value) + " is outside an axis of " +
                            std::to_string(extent) + " elements");
  }
  return i;
}

/// More elements than any tensor can have: as doubles they fill the address space of a process. Sizes are
/// checked against it where they become known, so that no arithmetic with them overflows after that.
constexpr std::int64_t kMostElements = std::int64_t{1} << 44;

/// A size computed while the model runs; throws where it cannot be one.
inline std::ptrdiff_t size(std::int64_t value, const char* what) {
  if (value < 0 || value > kMostElements) {
    throw std::runtime_error(std::string(what) + " is " + std::to_string(value) + ", which is no size");
  }
  return static_cast<std::ptrdiff_t>(value);
}

/// A product of sizes, one of which may be 0, that the model needs to be a number of elements.
inline void check_product(std::initializer_list<std::ptrdiff_t> sizes, const char* what) {
  std::ptrdiff_t product = 1;
  for (const std::ptrdiff_t size : sizes) {
    if (size < 0 || size > kMostElements / product) {
      std::string factors;
      for (const std::ptrdiff_t factor : sizes)
        factors += (factors.empty() ? "" : " * ") + std::to_string(factor);
      throw std::runtime_error(std::string(what) + " is " + factors + ", more elements than there can be");
    }
    product *= size > 0 ? size : 1;
  }
}

/// Two sizes that the model needs to be equal.
inline void check_equal(std::ptrdiff_t a, std::ptrdiff_t b, const char* what) {
  if (a == b) return;
  throw std::runtime_error(std::string(what) + " does not hold: " + std::to_string(a) + " and " +
                           std::to_string(b));
}

/// The size that two sizes broadcast to, which check_broadcast has accepted.
constexpr std::ptrdiff_t broadcast_size(std::ptrdiff_t a, std::ptrdiff_t b) { return a == 1 ? b : a; }

/// Two sizes that the model needs to be equal, unless one of them is 1.
inline void check_broadcast(std::ptrdiff_t a, std::ptrdiff_t b, const char* what) {
  if (a != 1 && b != 1) check_equal(a, b, what);
}

/// A size that the model needs to be 1 or another one.
inline void check_broadcast_to(std::ptrdiff_t from, std::ptrdiff_t to, const char* what) {
  if (from != 1) check_equal(from, to, what);
}

/// A size that the model needs to be at most another.
inline void check_at_most(std::ptrdiff_t small, std::ptrdiff_t large, const char* what) {
  if (small > large) check_equal(small, large, what);
}

}  // namespace sofie
