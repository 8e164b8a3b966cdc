// Times inference calls from C++, so that no Python is between two calls, and measures the machine's peaks.
//
// Every contender is a function `int call(void* context)` that runs its model once on inputs and outputs that
// were bound before, and returns 0. Compiled by rootbench/timing.py. SPDX-License-Identifier: BSD-3-Clause
#include <dlfcn.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

using Clock = std::chrono::steady_clock;

double nanoseconds(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double, std::nano>(to - from).count();
}

#if defined(__AVX512F__)
constexpr std::size_t kBytes = 64;
#elif defined(__AVX__)
constexpr std::size_t kBytes = 32;
#else
constexpr std::size_t kBytes = 16;
#endif
typedef float Floats __attribute__((vector_size(kBytes)));
typedef std::uint64_t Words __attribute__((vector_size(kBytes)));

volatile float sink;

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

/// FMA peak of this core in GFLOP/s: independent chains, as many as registers allow.
double peak_gflops(double seconds) {
  constexpr int kChains = kBytes == 64 ? 24 : 12;
  constexpr int kSteps = 4096;
  volatile float factor = 0.999f, term = 0.001f;
  const Floats x = Floats{} + factor, y = Floats{} + term;
  Floats chain[kChains];
  for (int c = 0; c < kChains; ++c) chain[c] = Floats{} + static_cast<float>(c);
  double best = 0;
  const auto begin = Clock::now();
  while (nanoseconds(begin, Clock::now()) < seconds * 1e9) {
    const auto start = Clock::now();
    for (int k = 0; k < kSteps; ++k) {
#pragma GCC unroll 32
      for (int c = 0; c < kChains; ++c) chain[c] = chain[c] * x + y;
    }
    const double flops = 2.0 * kSteps * kChains * (kBytes / sizeof(float));
    const double rate = flops / nanoseconds(start, Clock::now());
    if (rate > best) best = rate;
  }
  Floats total{};
  for (int c = 0; c < kChains; ++c) total += chain[c];
  sink = total[0];
  return best;
}

/// How fast this core reads a block of that size again and again, in GB/s: what its cache level gives.
double read_gbytes(std::size_t bytes, double seconds) {
  constexpr std::size_t kStreams = 8;
  constexpr std::size_t kChunk = kStreams * kBytes;
  const std::size_t count = bytes / kChunk + 1;
  std::vector<unsigned char> memory(count * kChunk + 64, 1);
  const auto* words = reinterpret_cast<const Words*>(
      memory.data() + (64 - reinterpret_cast<std::uintptr_t>(memory.data()) % 64) % 64);
  Words total[kStreams] = {};
  double best = 0;
  const auto begin = Clock::now();
  while (nanoseconds(begin, Clock::now()) < seconds * 1e9) {
    const std::size_t rounds = 1 + (std::size_t{1} << 20) / (count * kChunk);
    const auto start = Clock::now();
    for (std::size_t r = 0; r < rounds; ++r) {
      for (std::size_t k = 0; k < count; ++k) {
#pragma GCC unroll 8
        for (std::size_t s = 0; s < kStreams; ++s) total[s] ^= words[k * kStreams + s];
      }
      asm volatile("" ::: "memory");
    }
    const double moved = static_cast<double>(rounds * count * kChunk);
    const double rate = moved / nanoseconds(start, Clock::now());
    if (rate > best) best = rate;
  }
  for (std::size_t s = 1; s < kStreams; ++s) total[0] ^= total[s];
  sink = static_cast<float>(total[0][0]);
  return best;
}

}  // extern "C"
