"""C++ threads that drive Sessions and functors: under the thread sanitizer, at exit, after a fork."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from cpp_program import compile_program, run_program
from small_models import control, mlp, rnn, selection
from test_weights import root_flags

from sofie_root.model import Model

THREADS = """
#include <atomic>
#include <barrier_of_threads.hxx>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>
#include <vector>
{includes}

static void check(bool good, const char* what) {{
  if (!good) {{
    std::printf("%s\\n", what);
    std::_Exit(1);
  }}
}}
template <class T, class Value>
static std::unique_ptr<T[]> typed(std::size_t size, const Value& value) {{
  std::unique_ptr<T[]> x(new T[size]);
  for (std::size_t k = 0; k < size; ++k) x[k] = value(k);
  return x;
}}
template <class T>
static std::vector<float> flat(const std::vector<T>& y) {{
  return std::vector<float>(y.begin(), y.end());
}}
static std::vector<float> values(std::size_t size) {{
  std::vector<float> x(size);
  for (std::size_t k = 0; k < size; ++k) x[k] = std::sin(float(k));
  return x;
}}
"""

BARRIER = """#pragma once
#include <condition_variable>
#include <mutex>
struct Barrier {
  explicit Barrier(int count) : count_(count) {}
  void wait() {
    std::unique_lock<std::mutex> lock(mutex_);
    const int round = round_;
    if (++here_ == count_) {
      here_ = 0;
      ++round_;
      all_.notify_all();
    } else {
      all_.wait(lock, [&] { return round != round_; });
    }
  }
  std::mutex mutex_;
  std::condition_variable all_;
  int count_, here_ = 0, round_ = 0;
};
"""

RACES = """
/// All threads make their first Session at once, run it at once, and again while others let theirs go.
template <class Session, class Run>
static void race(const Run& run) {{
  constexpr int threads = 6, rounds = 12;
  Barrier barrier(threads);
  std::vector<std::vector<float>> first(threads);
  std::vector<std::thread> all;
  for (int t = 0; t < threads; ++t) {{
    all.emplace_back([&, t] {{
      barrier.wait();
      for (int round = 0; round < rounds; ++round) {{
        Session session;
        const std::vector<float> y = run(session, round % 3 + 1);
        const std::vector<float> again = run(session, round % 3 + 1);
        check(!y.empty() && y == again, "a Session does not repeat itself");
        if (round == 0) first[t] = y;
        if (round % 4 == t % 4) barrier.wait();
      }}
    }});
  }}
  for (auto& thread : all) thread.join();
  for (const auto& y : first) check(y == first[0], "threads get different results");
}}

template <class Session>
static void race_dense() {{
  race<Session>([](Session& session, std::size_t n) {{ return session.infer(n, values(n * 16).data()); }});
}}

int main() {{
  std::thread one([] {{ race_dense<TMVA_SOFIE_dense::Session>(); }});
  std::thread two([] {{ race_dense<TMVA_SOFIE_embedded::Session>(); }});
  one.join();
  two.join();
  {others}
  std::printf("done\\n");
}}
"""


def generated(folder: Path, **models: tuple[Model, str]) -> str:
    """Writes headers, and gives the lines that include them."""
    (folder / "barrier_of_threads.hxx").write_text(BARRIER)
    for name, (model, weights) in models.items():
        model.generate(folder / f"{name}.hxx", weights, standalone=False)  # type: ignore[arg-type]
    return "\n".join(f'#include "{name}.hxx"' for name in models)


def sanitized(folder: Path, source: str, *flags: str) -> str:
    """Output of a program under the thread sanitizer; a race is an error."""
    options = (
        "-O1",
        "-g1",
        "-march=native",
        "-pthread",
        "-fsanitize=thread",
        f"-I{folder}",
        *flags,
    )
    program = compile_program(folder, source, options)
    command, arguments = program, []
    if setarch := shutil.which("setarch"):  # the sanitizer cannot place its memory where it likes
        command, arguments = Path(setarch), ["-R", str(program)]
    return run_program(command, *arguments, cwd=folder, TSAN_OPTIONS="halt_on_error=1:exitcode=66")


FUNCTOR = """
#include <sofie/SofieFunctor.hxx>
static void race_functor() {{
  constexpr unsigned slots = 6;
  const SofieFunctor<TMVA_SOFIE_dense::Session, ROOT::RVecF> functor(slots);
  const std::vector<float> x = values(16);
  const ROOT::RVecF column(x.begin(), x.end());
  std::vector<ROOT::RVecF> results(slots);
  std::vector<std::thread> all;
  for (unsigned slot = 0; slot < slots; ++slot) {{
    all.emplace_back([&, slot, copy = functor] {{
      for (int event = 0; event < 50; ++event) results[slot] = copy(slot, column);
    }});
  }}
  for (auto& thread : all) thread.join();
  for (const auto& result : results) check(ROOT::VecOps::All(result == results[0]), "slots differ");
}}
"""


@pytest.mark.slow
def test_sessions_and_functors_race(tmp_path: Path) -> None:
    """All kinds of state: weights in files and in the program, hidden states, branches, dynamic sizes."""
    includes = generated(
        tmp_path,
        dense=(mlp(), "dat"),
        embedded=(mlp(), "embedded"),
        rnn=(rnn(), "dat"),
        control=(control(), "embedded"),
        selection=(selection(), "dat"),
    )
    others = "race_functor();\n" + "\n".join(
        race_of(name, make())
        for name, make in (("rnn", rnn), ("control", control), ("selection", selection))
    )
    source = THREADS.format(includes=includes) + FUNCTOR.format() + RACES.format(others=others)
    flags = [flag for flag in root_flags() if not flag.startswith("-l")]
    assert sanitized(tmp_path, source, *flags, "-lROOTVecOps", "-lCore") == "done\n"


def race_of(name: str, model: Model) -> str:
    """A line that lets threads race through Sessions of a model."""
    inputs = []
    for type_ in model.inputs.values():
        size = int(np.prod([d if isinstance(d, int) else 5 for d in type_.shape], dtype=int))
        cast = f"static_cast<{type_.dtype.cpp}>(k % 2)"
        inputs.append(
            f"typed<{type_.dtype.cpp}>({size}, [](std::size_t k) {{ (void)k; return {cast}; }}).get()"
        )
    sizes = ["5"] * len(model.symbols)
    many = len(model.outputs) > 1
    return (
        f"race<TMVA_SOFIE_{name}::Session>([](auto& session, std::size_t) {{ "
        f"auto y = session.infer({', '.join(sizes + inputs)}); "
        f"return flat({'std::get<0>(y)' if many else 'y'}); }});"
    )


def test_the_sanitizer_sees_races(tmp_path: Path) -> None:
    """If this passed without a word, so would everything else here."""
    generated(tmp_path)
    source = (
        THREADS.format(includes="")
        + """
int shared = 0;
int main() {
  (void)check, (void)values;
  std::thread other([] { for (int k = 0; k < 1000; ++k) ++shared; });
  for (int k = 0; k < 1000; ++k) ++shared;
  other.join();
}
"""
    )
    with pytest.raises(AssertionError, match="data race"):
        sanitized(tmp_path, source)


LIFETIMES = """
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

using TMVA_SOFIE_dense::Session;
static std::vector<float> run() {{
  Session session;
  return session.infer(1, values(WIDTH).data());
}}
/// Makes its last Session when everything that was made after it is gone.
struct Last {{
  ~Last() {{
    check(run() == expected && held->infer(1, values(WIDTH).data()) == expected, "differs at the end");
    held.reset();
    std::puts("end");
  }}
  std::vector<float> expected;
  std::unique_ptr<Session> held;
}};
static Last last;

int main(int argc, char**) {{
  last.expected = run();
  last.held = std::make_unique<Session>();
  const pid_t child = fork();
  if (child == 0) std::_Exit(run() == last.expected ? 0 : 1);
  int status = 0;
  waitpid(child, &status, 0);
  check(status == 0, "differs after a fork");
  if (argc > 1) {{
    const rlimit limit{{3u << 30, 3u << 30}};
    check(setrlimit(RLIMIT_AS, &limit) == 0, "no limit");
    std::vector<std::unique_ptr<Session>> sessions;
    for (int k = 0; k < 10000; ++k) sessions.push_back(std::make_unique<Session>());
    check(sessions.back()->infer(1, values(WIDTH).data()) == last.expected, "differs among many");
  }}
  // Threads that nobody waits for go on while the program ends.
  for (int t = 0; t < 4; ++t) {{
    std::thread([] {{ for (;;) run(); }}).detach();
  }}
}}
"""


def test_at_the_end_after_a_fork_and_many_sessions(tmp_path: Path) -> None:
    """10,000 Sessions of a model with 4 MB of weights fit into 3 GB, so they share them."""
    wide = (1024, 1024, 4)
    includes = generated(tmp_path, dense=(mlp(wide), "dat"))
    source = f"#define WIDTH {wide[0]}\n" + THREADS.format(includes=includes) + LIFETIMES.format()
    program = compile_program(tmp_path, source, ("-O2", "-pthread", f"-I{tmp_path}"))
    for _ in range(3):
        assert run_program(program, "many") == "end\n"


def test_static_sessions_under_the_address_sanitizer(tmp_path: Path) -> None:
    includes = generated(tmp_path, dense=(mlp(), "dat"))
    source = "#define WIDTH 16\n" + THREADS.format(includes=includes) + LIFETIMES.format()
    flags = ("-O1", "-pthread", "-fsanitize=address,undefined", f"-I{tmp_path}")
    program = compile_program(tmp_path, source.replace("t < 4", "t < 0"), flags)
    assert run_program(program) == "end\n"
