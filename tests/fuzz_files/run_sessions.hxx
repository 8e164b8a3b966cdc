// Runs a generated Session on inputs of any values, for AddressSanitizer and UndefinedBehaviorSanitizer to
// watch. Exceptions are answers; what the model computes does not matter.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <exception>
#include <limits>
#include <memory>
#include <random>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace fuzz {

constexpr std::size_t kMost = 1 << 20;  // elements of an input

/// Memory of exactly the size of an input, filled with numbers that fit and with odd ones.
template <class T>
std::unique_ptr<T[]> random_elements(std::size_t count, std::mt19937& random) {
  std::unique_ptr<T[]> made(new T[count]);
  for (std::size_t k = 0; k < count; ++k) {
    const int odd = random() % 16, small = static_cast<int>(random() % 7) - 2;
    if constexpr (std::is_same<T, bool>::value) {
      made[k] = small > 0;
    } else if constexpr (std::is_integral<T>::value) {
      made[k] = odd == 0   ? std::numeric_limits<T>::max()
                : odd == 1 ? std::numeric_limits<T>::lowest()
                           : static_cast<T>(std::is_signed<T>::value || small > 0 ? small : 0);
    } else if constexpr (std::is_floating_point<T>::value) {
      made[k] = odd == 0   ? std::numeric_limits<T>::quiet_NaN()
                : odd == 1 ? std::numeric_limits<T>::infinity()
                : odd == 2 ? std::numeric_limits<T>::lowest()
                           : static_cast<T>(small) + T(0.25);
    } else {
      made[k] = T(static_cast<float>(small));
    }
  }
  return made;
}

template <class Session, std::size_t... Symbol, std::size_t... Input>
void run_once(std::size_t size, std::mt19937& random, std::index_sequence<Symbol...>,
              std::index_sequence<Input...>) {
  const std::size_t sizes[sizeof...(Symbol) + 1] = {(static_cast<void>(Symbol), size)...};
  const auto count = [&](auto described) -> std::size_t {
    using D = decltype(described);
    std::size_t total = 1;
    for (std::size_t axis = 0; axis < D::rank; ++axis) {
      const std::int64_t d = D::shape[axis];
      if (d == std::numeric_limits<std::int64_t>::min()) return kMost + 1;  // an expression of the sizes
      total *= d >= 0 ? static_cast<std::size_t>(d) : sizes[-1 - d];
      if (total > kMost) return kMost + 1;
    }
    return total;
  };
  const std::size_t counts[sizeof...(Input) + 1] = {
      count(std::tuple_element_t<Input, typename Session::Inputs>{})...};
  for (std::size_t k = 0; k < sizeof...(Input); ++k) {
    if (counts[k] > kMost) return;
  }
  auto inputs =
      std::make_tuple(random_elements<typename std::tuple_element_t<Input, typename Session::Inputs>::type>(
          counts[Input], random)...);
  Session session;
  for (int again = 0; again < 2; ++again) {
    auto result = session.infer(sizes[Symbol]..., std::get<Input>(inputs).get()...);
    static_cast<void>(result);
  }
}

/// Runs a Session with a few sizes, in a process of its own.
template <class Session>
void run(const char* name) {
  std::fprintf(stderr, "== %s\n", name);
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    for (const std::size_t size : {2, 3, 0, 1, 17}) {
      std::mt19937 random(static_cast<unsigned>(size));
      try {
        run_once<Session>(size, random, std::make_index_sequence<Session::kSymbols>(),
                          std::make_index_sequence<std::tuple_size<typename Session::Inputs>::value>());
      } catch (const std::exception&) {
      }
    }
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  const char* what = WIFSIGNALED(status)   ? (WTERMSIG(status) == SIGALRM ? "slow" : "signal")
                     : WEXITSTATUS(status) ? "sanitizer"
                                           : "ran";
  std::printf("%s %s\n", name, what);
}

}  // namespace fuzz
