// Memory between pages that nobody may touch, for tests: where SOFIE_GUARD_PAGES is defined and this header
// is included first, a Session's temporaries, weights and results live in it, so that a read or write beside
// a tensor ends the program at once, also where sanitizers are blind (masked vector loads, neighbours in one
// arena). POSIX only.
//
// SOFIE_GUARD_PAGES 1: memory ends at a guard page; 2: it begins behind one.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

namespace sofie {

/// Bytes between two guard pages. What was not written yet is NaN, or -1.
class GuardedMemory {
 public:
  GuardedMemory() = default;
  explicit GuardedMemory(std::size_t bytes) : bytes_(bytes) {
    const std::size_t page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t inside = (bytes + page - 1) / page * page;
    if (bytes > kMost) throw std::bad_alloc();
    mapped_ = inside + 2 * page;
    void* const all = ::mmap(nullptr, mapped_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (all == MAP_FAILED) throw std::bad_alloc();
    begin_ = static_cast<unsigned char*>(all);
    if (inside > 0 && ::mprotect(begin_ + page, inside, PROT_READ | PROT_WRITE) != 0) {
      ::munmap(begin_, mapped_);
      throw std::bad_alloc();
    }
    data_ = begin_ + page + (SOFIE_GUARD_PAGES == 1 ? inside - bytes : 0);
    if (inside > 0) std::memset(begin_ + page, 0xff, inside);
  }
  GuardedMemory(GuardedMemory&& other) noexcept { swap(other); }
  GuardedMemory& operator=(GuardedMemory&& other) noexcept {
    swap(other);
    return *this;
  }
  ~GuardedMemory() {
    if (begin_ != nullptr) ::munmap(begin_, mapped_);
  }

  unsigned char* data() const { return data_; }
  std::size_t size() const { return bytes_; }

 private:
  static constexpr std::size_t kMost = std::size_t{1} << 32;  // all of it is written to

  void swap(GuardedMemory& other) noexcept {
    std::swap(begin_, other.begin_);
    std::swap(data_, other.data_);
    std::swap(mapped_, other.mapped_);
    std::swap(bytes_, other.bytes_);
  }

  unsigned char *begin_ = nullptr, *data_ = nullptr;
  std::size_t mapped_ = 0, bytes_ = 0;
};

/// As the Arena of session.hxx, but of the size that was asked for last, and empty after each `reserve`.
class Arena {
 public:
  Arena() = default;
  explicit Arena(std::size_t bytes) { reserve(bytes); }

  void reserve(std::size_t bytes) { memory_ = GuardedMemory(bytes); }
  template <class T>
  T* at(std::size_t offset) const {
    return reinterpret_cast<T*>(memory_.data() + offset);
  }
  std::size_t size() const { return memory_.size(); }

 private:
  GuardedMemory memory_;
};

/// Gives a std::vector guarded memory.
template <class T>
struct GuardedAllocator {
  using value_type = T;

  GuardedAllocator() = default;
  template <class U>
  GuardedAllocator(const GuardedAllocator<U>&) {}  // NOLINT: allocators convert

  T* allocate(std::size_t count) {
    // The memory is found again by its address when it is given back.
    GuardedMemory memory(count * sizeof(T));
    unsigned char* const data = memory.data();
    kept().emplace_back(data, std::move(memory));
    return reinterpret_cast<T*>(data);
  }
  void deallocate(T* p, std::size_t) {
    auto& all = kept();
    for (auto& item : all) {
      if (item.first != reinterpret_cast<unsigned char*>(p)) continue;
      std::swap(item, all.back());
      all.pop_back();
      return;
    }
  }
  template <class U>
  bool operator==(const GuardedAllocator<U>&) const {
    return true;
  }
  template <class U>
  bool operator!=(const GuardedAllocator<U>&) const {
    return false;
  }

 private:
  static std::vector<std::pair<unsigned char*, GuardedMemory>>& kept() {
    thread_local std::vector<std::pair<unsigned char*, GuardedMemory>> all;
    return all;
  }
};

}  // namespace sofie
