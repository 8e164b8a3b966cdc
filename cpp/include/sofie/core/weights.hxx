// Weights at run time: a .dat file read in one go, checked, and handed out as typed, 64-byte aligned arrays.
//
// Layout of a .dat file (little-endian; written by sofie_root/storage/weights.py):
//
//   0   "SOFIEDAT"                      magic
//   8   u32  format version             1
//   12  u32  number of tensors
//   16  32 bytes  model hash            SHA-256; the generated header holds the same
//   48  u64  bytes of the table
//   56  u64  bytes of the file
//   64  table, one entry per tensor:    u32 bytes of name, u32 dtype (ONNX number), u32 rank, u32 zero,
//                                       u64 offset, u64 bytes, u64 dims[rank], name padded with zeros to 8
//   ... data, each tensor at a multiple of 64; the end is padded to a multiple of 64
//   ... u64  checksum                   XXH64 (seed 0) of everything before it
//
// Every failure throws std::runtime_error that names the file, the tensor, what was expected and what was
// found. No size in a file is believed before it was compared with the size of the file.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "sofie_root stores weights in little-endian order and needs a little-endian machine"
#endif

namespace sofie {

/// A block of bytes that starts at a multiple of 64, so that vector loads of its tensors never split a line.
struct AlignedBytes {
  struct Free {
    void operator()(unsigned char* p) const { std::free(p); }
  };
  std::unique_ptr<unsigned char, Free> data;
  std::size_t size = 0;

  AlignedBytes() {}
  explicit AlignedBytes(std::size_t bytes) : size(bytes) {
    // Each inference reads all weights once; where they are large, half the pages of 4 kB are missing from
    // the TLB, so huge pages are asked for (ResNet18: 8 % of its time). Not for the rest of the last one.
    constexpr std::size_t huge_page = std::size_t{1} << 21;
    const std::size_t alignment = bytes < 2 * huge_page ? 64 : huge_page;
    data.reset(
        static_cast<unsigned char*>(std::aligned_alloc(alignment, (bytes / alignment + 1) * alignment)));
    if (!data)
      throw std::runtime_error("sofie: no memory for " + std::to_string(bytes) + " bytes of weights");
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (alignment == huge_page) madvise(data.get(), bytes / huge_page * huge_page, MADV_HUGEPAGE);
#endif
  }
};

namespace dat {

constexpr std::size_t kDatHeader = 64;
constexpr std::uint32_t kDatVersion = 1;

[[noreturn]] inline void weights_error(const std::string& file, const std::string& what) {
  throw std::runtime_error("weights file '" + file + "': " + what);
}

template <class T>
inline T load_as(const unsigned char* p) {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}

inline std::uint64_t rotate_left(std::uint64_t x, int n) { return (x << n) | (x >> (64 - n)); }

/// XXH64 with seed 0 of a length that is a multiple of 32 and not zero: the general algorithm without its
/// tail.
inline std::uint64_t xxh64(const unsigned char* p, std::size_t bytes) {
  constexpr std::uint64_t p1 = 0x9E3779B185EBCA87u, p2 = 0xC2B2AE3D27D4EB4Fu, p3 = 0x165667B19E3779F9u,
                          p4 = 0x85EBCA77C2B2AE63u;
  std::uint64_t a = p1 + p2, b = p2, c = 0, d = 0 - p1;
  const unsigned char* const end = p + bytes;
  for (; p != end; p += 32) {
    a = rotate_left(a + load_as<std::uint64_t>(p) * p2, 31) * p1;
    b = rotate_left(b + load_as<std::uint64_t>(p + 8) * p2, 31) * p1;
    c = rotate_left(c + load_as<std::uint64_t>(p + 16) * p2, 31) * p1;
    d = rotate_left(d + load_as<std::uint64_t>(p + 24) * p2, 31) * p1;
  }
  std::uint64_t h = rotate_left(a, 1) + rotate_left(b, 7) + rotate_left(c, 12) + rotate_left(d, 18);
  for (const std::uint64_t lane : {a, b, c, d}) h = (h ^ (rotate_left(lane * p2, 31) * p1)) * p1 + p4;
  h += bytes;
  h = (h ^ (h >> 33)) * p2;
  h = (h ^ (h >> 29)) * p3;
  return h ^ (h >> 32);
}

/// Name and bytes per element of an ONNX element type; size 0 where it is none that a .dat can hold.
struct ElementType {
  const char* name;
  std::size_t size;
};
inline ElementType element_type(std::uint32_t onnx) {
  switch (onnx) {
    case 1:
      return {"float", 4};
    case 2:
      return {"uint8", 1};
    case 3:
      return {"int8", 1};
    case 4:
      return {"uint16", 2};
    case 5:
      return {"int16", 2};
    case 6:
      return {"int32", 4};
    case 7:
      return {"int64", 8};
    case 9:
      return {"bool", 1};
    case 10:
      return {"float16", 2};
    case 11:
      return {"double", 8};
    case 12:
      return {"uint32", 4};
    case 13:
      return {"uint64", 8};
    case 16:
      return {"bfloat16", 2};
    default:
      return {"unknown", 0};
  }
}

/// ONNX number of a C++ element type. A class type (a 16-bit float) says its own as `T::onnx`.
template <class T>
constexpr std::uint32_t onnx_number() {
  if constexpr (std::is_same<T, bool>::value) {
    return 9;
  } else if constexpr (std::is_floating_point<T>::value) {
    return sizeof(T) == 4 ? 1 : 11;
  } else if constexpr (std::is_integral<T>::value) {
    constexpr bool is_signed = std::is_signed<T>::value;
    return sizeof(T) == 1   ? (is_signed ? 3 : 2)
           : sizeof(T) == 2 ? (is_signed ? 5 : 4)
           : sizeof(T) == 4 ? (is_signed ? 6 : 12)
                            : (is_signed ? 7 : 13);
  } else {
    return T::onnx;
  }
}

}  // namespace dat

/// The bytes of a .dat file.
inline AlignedBytes read_weights(const std::string& path) {
  struct Close {
    void operator()(std::FILE* f) const { std::fclose(f); }
  };
  std::unique_ptr<std::FILE, Close> file(std::fopen(path.c_str(), "rb"));
  if (!file) {
    dat::weights_error(path,
                       std::string("cannot be opened: ") + std::strerror(errno) +
                           "; give the Session the path of the file that was generated with this header");
  }
  unsigned char header[dat::kDatHeader];
  const std::size_t got = std::fread(header, 1, sizeof header, file.get());
  if (std::ferror(file.get())) {
    dat::weights_error(path, std::string("cannot be read: ") + std::strerror(errno));
  }
  if (got >= 8 && std::memcmp(header, "SOFIEDAT", 8) != 0) {
    const bool root = std::memcmp(header, "root", 4) == 0;
    dat::weights_error(path, root
                                 ? "is a ROOT file, but this header reads .dat files; generate it again with "
                                   "weights=\"root\""
                                 : "expected a file that starts with \"SOFIEDAT\"; this is no weights file");
  }
  if (got < sizeof header) {
    dat::weights_error(path,
                       "is cut off: expected a header of 64 bytes, found " + std::to_string(got) + " bytes");
  }
  const auto stated = dat::load_as<std::uint64_t>(header + 56);
  const long end = std::fseek(file.get(), 0, SEEK_END) == 0 ? std::ftell(file.get()) : -1;
  if (end < 0 || static_cast<std::uint64_t>(end) != stated) {
    dat::weights_error(path, "is cut off or damaged: expected " + std::to_string(stated) + " bytes, found " +
                                 std::to_string(end));
  }
  std::rewind(file.get());
  AlignedBytes bytes(static_cast<std::size_t>(stated));
  if (std::fread(bytes.data.get(), 1, bytes.size, file.get()) != bytes.size) {
    dat::weights_error(path, std::string("cannot be read: ") + std::strerror(errno));
  }
  return bytes;
}

/// Where a weights file is: `path` itself, or else beside the C++ file `source` (pass `__FILE__`).
inline std::string find_weights(const std::string& path, const char* source) {
  const auto exists = [](const std::string& p) {
    std::FILE* f = std::fopen(p.c_str(), "rb");
    if (f) std::fclose(f);
    return f != nullptr;
  };
  if (path.empty() || path[0] == '/' || path.find("://") != std::string::npos || exists(path)) return path;
  const std::string from = source;
  const std::size_t slash = from.rfind('/');
  if (slash == std::string::npos) return path;
  const std::string beside = from.substr(0, slash + 1) + path;
  return exists(beside) ? beside : path;
}

/// A weights file in memory; the arrays that `tensor` returns live as long as this object.
class WeightsFile {
 public:
  /// Reads and checks a file. `hash` is the model's SHA-256 as 64 hexadecimal digits; `read` gets the bytes
  /// (sofie::read_root_weights of weights_root.hxx also reads .root files).
  WeightsFile(const std::string& path, const char* hash,
              AlignedBytes (*read)(const std::string&) = read_weights)
      : name_(path), bytes_(read(path)), begin_(bytes_.data.get()), size_(bytes_.size) {
    check(hash);
  }
  /// Weights that are part of the program: 64-byte aligned static memory that holds the bytes of a .dat file.
  WeightsFile(const unsigned char* image, std::size_t size, const char* hash)
      : name_("(embedded)"), begin_(image), size_(size) {
    check(hash);
  }
  WeightsFile(const WeightsFile&) = delete;
  WeightsFile& operator=(const WeightsFile&) = delete;

  /// The elements of a tensor, in row-major order; throws where its type or shape is not the one asked for.
  template <class T>
  const T* tensor(const char* name, std::initializer_list<std::size_t> shape) {
    const std::vector<std::uint64_t> dims(shape.begin(), shape.end());
    const Entry& found = find(name, dat::onnx_number<T>(), dims);
#ifdef SOFIE_GUARD_PAGES
    std::size_t bytes = sizeof(T);
    for (const std::size_t d : shape) bytes *= d;
    guarded_.emplace_back(bytes);
    std::memcpy(guarded_.back().data(), begin_ + found.offset, bytes);
    return reinterpret_cast<const T*>(guarded_.back().data());
#else
    return reinterpret_cast<const T*>(begin_ + found.offset);
#endif
  }

 private:
  struct Entry {
    std::string name;
    std::uint32_t dtype;
    std::uint64_t offset;
    std::vector<std::uint64_t> dims;
  };

  [[noreturn]] void fail(const std::string& what) const { dat::weights_error(name_, what); }
  [[noreturn]] void fail(const std::string& tensor, const std::string& what) const {
    fail("tensor '" + tensor + "': " + what);
  }

  static std::string type_text(std::uint32_t dtype, const std::vector<std::uint64_t>& dims) {
    std::string text = std::string(dat::element_type(dtype).name) + "[";
    for (std::size_t k = 0; k < dims.size(); ++k) text += (k ? ", " : "") + std::to_string(dims[k]);
    return text + "]";
  }

  const Entry& find(const std::string& name, std::uint32_t dtype, const std::vector<std::uint64_t>& dims) {
    for (std::size_t k = 0; k < table_.size(); ++k) {
      const Entry& e = table_[(next_ + k) % table_.size()];
      if (e.name != name) continue;
      next_ = (next_ + k + 1) % table_.size();
      if (e.dtype != dtype || e.dims != dims) {
        fail(name, "expected " + type_text(dtype, dims) + ", found " + type_text(e.dtype, e.dims));
      }
      return e;
    }
    fail(name, "expected " + type_text(dtype, dims) + ", found no tensor of that name");
  }

  void check(const char* hash) {
    using dat::load_as;
    if (size_ < dat::kDatHeader + 8 || (size_ - 8) % 64 != 0) {
      fail("is cut off: expected a header and whole blocks of 64 bytes, found " + std::to_string(size_) +
           " bytes");
    }
    if (std::memcmp(begin_, "SOFIEDAT", 8) != 0) fail("expected magic \"SOFIEDAT\", found other bytes");
    const auto version = load_as<std::uint32_t>(begin_ + 8);
    if (version != dat::kDatVersion) {
      fail("expected format version " + std::to_string(dat::kDatVersion) + ", found " +
           std::to_string(version) + "; generate header and weights again with the same sofie_root");
    }
    std::string found_hash;
    for (int k = 16; k < 48; ++k) {
      found_hash += "0123456789abcdef"[begin_[k] >> 4];
      found_hash += "0123456789abcdef"[begin_[k] & 15];
    }
    if (found_hash != hash) {
      fail("holds the weights of another model: expected model hash " + std::string(hash) + ", found " +
           found_hash);
    }
    if (load_as<std::uint64_t>(begin_ + 56) != size_) {
      fail("is cut off or damaged: expected " + std::to_string(load_as<std::uint64_t>(begin_ + 56)) +
           " bytes, found " + std::to_string(size_));
    }
    const auto stated = load_as<std::uint64_t>(begin_ + size_ - 8);
    const std::uint64_t computed = dat::xxh64(begin_, size_ - 8);
    if (stated != computed) {
      fail("is damaged: expected checksum " + std::to_string(stated) + ", found " + std::to_string(computed));
    }
    read_table(load_as<std::uint32_t>(begin_ + 12), load_as<std::uint64_t>(begin_ + 48));
  }

  void read_table(std::uint32_t count, std::uint64_t bytes) {
    using dat::load_as;
    const std::uint64_t end = size_ - 8;  // of the data; everything lies between the header and it
    if (bytes > end - dat::kDatHeader) fail("is damaged: its table is larger than the file");
    std::uint64_t at = dat::kDatHeader;
    const std::uint64_t stop = at + bytes;
    for (std::uint32_t k = 0; k < count; ++k) {
      if (stop - at < 32) fail("is damaged: its table ends before tensor " + std::to_string(k));
      const std::uint64_t name_bytes = load_as<std::uint32_t>(begin_ + at);
      const std::uint64_t rank = load_as<std::uint32_t>(begin_ + at + 8);
      const std::uint64_t padded = (name_bytes + 7) / 8 * 8;
      if (stop - at - 32 < padded + 8 * rank)
        fail("is damaged: its table ends in tensor " + std::to_string(k));
      const unsigned char* dims = begin_ + at + 32;
      Entry e{std::string(reinterpret_cast<const char*>(dims + 8 * rank), name_bytes),
              load_as<std::uint32_t>(begin_ + at + 4),
              load_as<std::uint64_t>(begin_ + at + 16),
              {}};
      const auto size = load_as<std::uint64_t>(begin_ + at + 24);
      std::uint64_t expected = dat::element_type(e.dtype).size;
      if (expected == 0) fail(e.name, "has the unknown element type " + std::to_string(e.dtype));
      for (std::uint64_t axis = 0; axis < rank; ++axis) {
        const auto d = load_as<std::uint64_t>(dims + 8 * axis);
        e.dims.push_back(d);
        if (d != 0 && expected > end / d) fail(e.name, "is damaged: its shape is larger than the file");
        expected *= d;
      }
      if (e.offset % 64 != 0 || e.offset > end || size > end - e.offset || size != expected) {
        fail(e.name, "is damaged: expected " + std::to_string(expected) + " bytes inside the file, found " +
                         std::to_string(size) + " at " + std::to_string(e.offset));
      }
      table_.push_back(std::move(e));
      at += 32 + 8 * rank + padded;
    }
  }

  std::string name_;
  AlignedBytes bytes_;
  const unsigned char* begin_;
  std::size_t size_;
  std::vector<Entry> table_;
#ifdef SOFIE_GUARD_PAGES
  std::vector<GuardedMemory> guarded_;
#endif
  std::size_t next_ = 0;  // where to look first: headers ask in the order of the table
};

/// The one W of this process that was made from `path`, made now if nobody holds it. Weights are immutable,
/// so the Sessions of all threads share them; they are freed with the last Session. The list itself is never
/// destroyed: static objects may make Sessions while the program ends, and threads may still run then.
template <class W>
std::shared_ptr<const W> shared_weights(const std::string& path) {
  static std::mutex& mutex = *new std::mutex;
  static auto& cache = *new std::map<std::string, std::weak_ptr<const W>>;
  const std::lock_guard<std::mutex> lock(mutex);
  std::weak_ptr<const W>& slot = cache[path];
  std::shared_ptr<const W> weights = slot.lock();
  if (!weights) {
    weights = std::make_shared<const W>(path);
    slot = weights;
  }
  return weights;
}

}  // namespace sofie
