// Times inference calls from C++, so that no Python is between two calls, and measures the machine's peaks.
//
// Every contender is a function `int call(void* context)` that runs its model once on inputs and outputs that
// were bound before, and returns 0. Compiled by rootbench/timing.py. SPDX-License-Identifier: BSD-3-Clause
#include <dlfcn.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <sofie/cpu/peak.hxx>

namespace {

using Clock = std::chrono::steady_clock;

double nanoseconds(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double, std::nano>(to - from).count();
}

}  // namespace

extern "C" {

typedef int (*Call)(void* context);

/// sofie_root: the `run` of sofie::runtime::Api, which calls Session::infer_to.
struct SofieContext {
  int (*run)(void* session, const std::size_t* dims, const void* const* in, void* const* out);
  void* session;
  const std::size_t* dims;
  const void* const* in;
  void* const* out;
};

int call_sofie(void* context) {
  const auto& c = *static_cast<const SofieContext*>(context);
  return c.run(c.session, c.dims, c.in, c.out);
}

/// ONNX Runtime: OrtApi::RunWithBinding; its status is null for success.
struct OrtContext {
  void* (*run_with_binding)(void* session, const void* run_options, const void* binding);
  void* session;
  const void* run_options;
  const void* binding;
};

int call_onnxruntime(void* context) {
  const auto& c = *static_cast<const OrtContext*>(context);
  return c.run_with_binding(c.session, c.run_options, c.binding) != nullptr;
}

/// A function that takes one pointer and returns 0, such as ov_infer_request_infer.
struct PointerContext {
  int (*function)(void* argument);
  void* argument;
};

int call_pointer(void* context) {
  const auto& c = *static_cast<const PointerContext*>(context);
  return c.function(c.argument);
}

int call_nothing(void*) { return 0; }

/// Time per call over `repeats` calls in a row. Returns the first status that is not 0.
int time_warm(Call call, void* context, std::size_t repeats, double* per_call) {
  const auto start = Clock::now();
  for (std::size_t k = 0; k < repeats; ++k) {
    if (const int status = call(context)) return status;
  }
  *per_call = nanoseconds(start, Clock::now()) / static_cast<double>(repeats);
  return 0;
}

/// Time of single calls, each after `bytes` of other memory went through the caches.
int time_flushed(Call call, void* context, unsigned char* memory, std::size_t bytes, std::size_t repeats,
                 double* times) {
  for (std::size_t k = 0; k < repeats; ++k) {
    for (std::size_t at = 0; at < bytes; at += 64) memory[at] = static_cast<unsigned char>(memory[at] + 1);
    const auto start = Clock::now();
    if (const int status = call(context)) return status;
    times[k] = nanoseconds(start, Clock::now());
  }
  return 0;
}

/// Allocations per call, rounded up; -1 where counting.cpp is not loaded or a call fails.
long long allocations_per_call(Call call, void* context, long long repeats) {
  using Counter = std::atomic<unsigned long long>;
  const auto* counter = static_cast<const Counter*>(dlsym(RTLD_DEFAULT, "rootbench_allocations"));
  if (counter == nullptr) return -1;
  const auto before = counter->load();
  for (long long k = 0; k < repeats; ++k) {
    if (call(context)) return -1;
  }
  return (static_cast<long long>(counter->load() - before) + repeats - 1) / repeats;
}

/// FMA peak of this core in GFLOP/s.
double peak_gflops(double seconds) { return sofie::peak::gflops(seconds); }

/// How fast this core reads a block of that size again and again, in GB/s.
double read_gbytes(std::size_t bytes, double seconds) { return sofie::peak::read_gbytes(bytes, seconds); }

}  // extern "C"
