// Makes calls that a file lists, each in a process of its own, with every tensor between guard pages.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <sofie/core/guarded.hxx>
#include <sofie/core/runtime.hxx>
#include <string>
#include <vector>

namespace guarded {

template <class T>
T read(std::FILE* file) {
  T value{};
  if (std::fread(&value, sizeof value, 1, file) != 1) std::exit(3);
  return value;
}

template <class T>
void write(std::FILE* file, T value) {
  std::fwrite(&value, sizeof value, 1, file);
}

inline void write_text(std::FILE* file, const std::string& text) {
  write<std::uint8_t>(file, 1);
  write<std::uint64_t>(file, text.size());
  std::fwrite(text.data(), 1, text.size(), file);
}

inline std::size_t element_size(std::int32_t dtype) {
  switch (dtype) {
    case 1:
    case 6:
    case 12:
      return 4;
    case 4:
    case 5:
    case 10:
    case 16:
      return 2;
    case 7:
    case 11:
    case 13:
      return 8;
    default:
      return 1;
  }
}

/// One call; its results, or the message of its exception, are appended to `to`.
inline void call(const sofie::runtime::Api* api, const std::vector<std::size_t>& dims,
                 const std::vector<sofie::GuardedMemory>& inputs, const char* to) {
  std::FILE* const file = std::fopen(to, "ab");
  char message[4096];
  void* const session = api->create(nullptr, message, sizeof message);
  if (session == nullptr) {
    write_text(file, message);
    std::fclose(file);
    return;
  }
  std::vector<const void*> in;
  for (const auto& memory : inputs) in.push_back(memory.data());
  std::vector<sofie::GuardedMemory> memory(api->outputs);
  std::vector<void*> out(api->outputs + 1);
  std::vector<std::vector<std::size_t>> shapes;
  bool good = true;
  const auto bytes = [&](std::size_t k) {
    std::size_t count = element_size(api->output[k].dtype);
    for (std::size_t d : shapes[k]) count *= d;
    return count;
  };
  for (std::size_t k = 0; good && k < api->outputs; ++k) {
    shapes.emplace_back(api->output[k].rank);
    if (api->output[k].dynamic) continue;
    good = api->output_shape(session, k, dims.data(), shapes[k].data()) == sofie::runtime::kOk;
    if (!good) break;
    memory[k] = sofie::GuardedMemory(bytes(k));
    out[k] = memory[k].data();
  }
  // Twice: the second time everything is warm.
  for (int round = 0; good && round < 2; ++round) {
    good = api->run(session, dims.data(), in.data(), out.data()) == sofie::runtime::kOk;
  }
  if (!good) {
    write_text(file, api->error(session));
  } else {
    write<std::uint8_t>(file, 0);
    for (std::size_t k = 0; k < api->outputs; ++k) {
      const void* data = out[k];
      if (api->output[k].dynamic) data = api->dynamic_output(session, k, shapes[k].data());
      for (std::size_t d : shapes[k]) write<std::uint64_t>(file, d);
      if (bytes(k) > 0) std::fwrite(data, 1, bytes(k), file);
    }
  }
  api->destroy(session);
  std::fclose(file);
}

/// Makes the calls of the file `from`: number of the model, sizes of its symbols, bytes of its inputs. What
/// a call that ended its process wrote to standard error is its result.
inline int main(const sofie::runtime::Api* const* models, const char* from, const char* to) {
  std::FILE* const file = std::fopen(from, "rb");
  if (file == nullptr) return 2;
  for (std::uint64_t left = read<std::uint64_t>(file); left > 0; --left) {
    const sofie::runtime::Api* const api = models[read<std::uint64_t>(file)];
    std::vector<std::size_t> dims(api->symbols + 1);
    for (std::size_t k = 0; k < api->symbols; ++k) dims[k] = read<std::uint64_t>(file);
    std::vector<sofie::GuardedMemory> inputs;
    for (std::size_t k = 0; k < api->inputs; ++k) {
      const std::size_t bytes = read<std::uint64_t>(file);
      inputs.emplace_back(bytes);
      if (bytes && std::fread(inputs.back().data(), 1, bytes, file) != bytes) return 3;
    }
    const std::string errors = std::string(to) + ".errors";
    std::FILE* const before = std::fopen(to, "ab");
    const long end = (std::fseek(before, 0, SEEK_END), std::ftell(before));
    std::fclose(before);
    const pid_t child = ::fork();
    if (child == 0) {
      if (std::freopen(errors.c_str(), "wb", stderr) == nullptr) ::_exit(3);
      ::alarm(20);
      call(api, dims, inputs, to);
      ::_exit(0);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) continue;
    if (::truncate(to, end) != 0) return 4;
    std::string text = "ended by signal " + std::to_string(WIFSIGNALED(status) ? WTERMSIG(status) : 0) + "\n";
    if (std::FILE* const said = std::fopen(errors.c_str(), "rb")) {
      char part[1 << 16];
      text.append(part, std::fread(part, 1, sizeof part, said));
      std::fclose(said);
    }
    std::FILE* const after = std::fopen(to, "ab");
    write<std::uint8_t>(after, 2);
    write<std::uint64_t>(after, text.size());
    std::fwrite(text.data(), 1, text.size(), after);
    std::fclose(after);
  }
  return 0;
}

}  // namespace guarded
