// Runs generated Sessions on inputs from a file, each in a process of its own, and writes what comes out.
//
// A batch of graphs defines kGraphs. `program IN OUT LIMIT [GRAPH...]` runs these graphs (all, if none is
// given) and writes OUT/<graph>. The memory that is given for outputs is filled with an odd pattern and has a
// margin; inputs end at a page that nobody may touch, and must stay as they are; the first set of inputs is
// run once more at the end, with warm temporaries.

#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sofie/core/runtime.hxx>
#include <string>
#include <vector>

using sofie::runtime::Api;
extern const Api* (*const kGraphs[])();
extern const std::size_t kGraphCount;

namespace {

constexpr std::size_t kMargin = 256;
constexpr unsigned char kPattern = 0xA5;

/// Reads numbers and blocks of bytes.
struct Reader {
  const std::vector<char>& bytes;
  std::size_t at = 0;

  std::uint64_t number() {
    std::uint64_t value;
    std::memcpy(&value, bytes.data() + at, sizeof value);
    at += sizeof value;
    return value;
  }
  const char* block(std::size_t size) {
    const char* found = bytes.data() + at;
    at += (size + 7) / 8 * 8;
    return found;
  }
};

/// One set of inputs: sizes of the symbols, and the bytes of each input.
struct Set {
  std::vector<std::size_t> dims;
  std::vector<std::vector<char>> inputs;
};

std::size_t bytes_of(std::int32_t dtype) {
  constexpr std::size_t sizes[] = {0, 4, 1, 1, 2, 2, 4, 8, 0, 1, 2, 8, 4, 8, 0, 0, 2};
  return sizes[dtype];
}

void put(std::FILE* file, std::uint64_t number) { std::fwrite(&number, sizeof number, 1, file); }

void put_text(std::FILE* file, const std::string& text) {
  put(file, text.size());
  std::fwrite(text.data(), 1, text.size(), file);
}

/// Memory with these bytes that ends where a page begins which nobody may touch; it is kept until the end.
char* fenced(const std::vector<char>& bytes) {
  const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  const std::size_t inside = (bytes.size() + page - 1) / page * page;
  void* const found =
      mmap(nullptr, inside + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (found == MAP_FAILED) std::abort();
  char* const begin = static_cast<char*>(found);
  mprotect(begin + inside, page, PROT_NONE);
  char* const data = begin + (inside - bytes.size());
  if (!bytes.empty()) std::memcpy(data, bytes.data(), bytes.size());
  return data;
}

/// A run: empty text, then for each output its shape and its bytes; or what went wrong.
void run(const Api& api, void* session, const Set& set, std::FILE* file) {
  std::vector<const void*> in;
  for (const auto& bytes : set.inputs) in.push_back(fenced(bytes));
  std::vector<std::vector<unsigned char>> memory(api.outputs);
  std::vector<std::vector<std::size_t>> shapes(api.outputs);
  std::vector<std::size_t> sizes(api.outputs);
  std::vector<void*> out(api.outputs);
  for (std::size_t k = 0; k < api.outputs; ++k) {
    shapes[k].resize(api.output[k].rank);
    if (api.output[k].dynamic) continue;
    if (api.output_shape(session, k, set.dims.data(), shapes[k].data()) != sofie::runtime::kOk) {
      return put_text(file, std::string("output_shape: ") + api.error(session));
    }
    sizes[k] = bytes_of(api.output[k].dtype);
    for (std::size_t size : shapes[k]) sizes[k] *= size;
    memory[k].assign(sizes[k] + 2 * kMargin, kPattern);
    out[k] = memory[k].data() + kMargin;
  }
  if (api.run(session, set.dims.data(), in.data(), out.data()) != sofie::runtime::kOk) {
    return put_text(file, std::string("run: ") + api.error(session));
  }
  std::string problem;
  for (std::size_t k = 0; k < in.size(); ++k) {
    const std::vector<char>& bytes = set.inputs[k];
    if (!bytes.empty() && std::memcmp(in[k], bytes.data(), bytes.size()) != 0) {
      problem += "input " + std::to_string(k) + " was overwritten; ";
    }
  }
  for (std::size_t k = 0; k < api.outputs; ++k) {
    if (api.output[k].dynamic) {
      out[k] = const_cast<void*>(api.dynamic_output(session, k, shapes[k].data()));
      sizes[k] = bytes_of(api.output[k].dtype);
      for (std::size_t size : shapes[k]) sizes[k] *= size;
      continue;
    }
    for (std::size_t i = 0; i < kMargin; ++i) {
      if (memory[k][i] != kPattern || memory[k][kMargin + sizes[k] + i] != kPattern) {
        problem += "output " + std::to_string(k) + " was written beyond its end; ";
        break;
      }
    }
  }
  put_text(file, problem);
  if (!problem.empty()) return;
  for (std::size_t k = 0; k < api.outputs; ++k) {
    put(file, shapes[k].size());
    for (std::size_t size : shapes[k]) put(file, size);
    put(file, sizes[k]);
    std::fwrite(out[k], 1, sizes[k], file);
  }
}

int run_graph(const Api& api, const std::vector<Set>& sets, const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "wb");
  char message[4096] = "";
  void* session = api.create(nullptr, message, sizeof message);
  if (session == nullptr) {
    put_text(file, std::string("create: ") + message);
    std::fclose(file);
    return 0;
  }
  for (const Set& set : sets) run(api, session, set, file);
  run(api, session, sets.front(), file);
  std::fclose(file);
  api.destroy(session);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  std::ifstream stream(argv[1], std::ios::binary);
  const std::vector<char> bytes{std::istreambuf_iterator<char>(stream), {}};
  Reader reader{bytes};
  std::vector<std::vector<Set>> graphs(reader.number());
  for (auto& sets : graphs) {
    sets.resize(reader.number());
    for (Set& set : sets) {
      set.dims.resize(reader.number());
      for (auto& size : set.dims) size = reader.number();
      set.inputs.resize(reader.number());
      for (auto& input : set.inputs) {
        const std::size_t size = reader.number();
        const char* data = reader.block(size);
        input.assign(data, data + size);
      }
    }
  }
  for (std::size_t k = 0; k < kGraphCount; ++k) {
    const std::string path = std::string(argv[2]) + "/" + std::to_string(k);
    std::fflush(nullptr);
    const pid_t child = fork();
    if (child == 0) {
      alarm(static_cast<unsigned>(std::atoi(argv[3])));
      const rlimit memory{std::uint64_t{6} << 30, std::uint64_t{6} << 30};
      setrlimit(RLIMIT_AS, &memory);
      const rlimit none{0, 0};
      setrlimit(RLIMIT_CORE, &none);
      _exit(run_graph(*kGraphs[k](), graphs[k], path));
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status)) {
      std::printf("%zu signal %d %s\n", k, WTERMSIG(status), strsignal(WTERMSIG(status)));
    } else if (WEXITSTATUS(status) != 0) {
      std::printf("%zu exit %d\n", k, WEXITSTATUS(status));
    }
  }
  return 0;
}
