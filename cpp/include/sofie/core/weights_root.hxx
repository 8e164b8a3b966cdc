// Weights kept in a .root file: reads the .dat image in TTree "header/dat" (weights.hxx says what is in it).
//
// The tree's branch "data" holds unsigned char[4096] per entry; the image is the entries one after the other
// and its own header says where it ends.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <TBranch.h>
#include <TDirectory.h>
#include <TFile.h>
#include <TLeaf.h>
#include <TTree.h>

#include "weights.hxx"

namespace sofie {

/// The bytes of the .dat image in a .root file; a path with another ending is read as a .dat file.
inline AlignedBytes read_root_weights(const std::string& path) {
  constexpr std::size_t chunk = 4096;
  if (path.size() < 5 || path.compare(path.size() - 5, 5, ".root") != 0) return read_weights(path);
  const TDirectory::TContext keep_directory;  // opening a file must not change the user's gDirectory
  const std::unique_ptr<TFile> file(TFile::Open(path.c_str(), "READ"));
  if (!file || file->IsZombie()) dat::weights_error(path, "cannot be opened as a ROOT file");
  if (file->TestBit(TFile::kRecovered)) dat::weights_error(path, "is cut off: ROOT had to recover it");
  TTree* tree = file->Get<TTree>("header/dat");
  TBranch* branch = tree ? tree->GetBranch("data") : nullptr;
  const TLeaf* leaf = branch ? branch->GetLeaf("data") : nullptr;
  if (!leaf) {
    dat::weights_error(path,
                       "expected TTree 'header/dat' with branch 'data', found none; write the file with "
                       "generate(..., weights=\"root\")");
  }
  if (std::strcmp(leaf->GetTypeName(), "UChar_t") != 0 || leaf->GetLenStatic() != static_cast<int>(chunk)) {
    dat::weights_error(path, "expected branch 'data' of unsigned char[4096], found " +
                                 std::string(leaf->GetTypeName()) + "[" +
                                 std::to_string(leaf->GetLenStatic()) + "]");
  }
  const auto read = [&](std::uint64_t entry, unsigned char* to) {
    branch->SetAddress(to);
    if (branch->GetEntry(static_cast<Long64_t>(entry)) != static_cast<int>(chunk)) {
      dat::weights_error(path,
                         "is damaged: entry " + std::to_string(entry) + " of 'header/dat' cannot be read");
    }
  };
  alignas(64) unsigned char first[chunk];
  const auto entries = static_cast<std::uint64_t>(tree->GetEntries());
  if (entries == 0 || entries > (std::uint64_t{1} << 40)) {
    dat::weights_error(path, "is damaged: 'header/dat' has " + std::to_string(entries) + " entries");
  }
  read(0, first);
  const auto size = dat::load_as<std::uint64_t>(first + 56);
  if (std::memcmp(first, "SOFIEDAT", 8) != 0 || size > entries * chunk || size + chunk <= entries * chunk) {
    dat::weights_error(path, "is damaged: 'header/dat' has " + std::to_string(entries) +
                                 " entries, its header states " + std::to_string(size) + " bytes");
  }
  AlignedBytes bytes(static_cast<std::size_t>(size));
  for (std::uint64_t k = 0; k < entries; ++k) {
    const std::size_t left = bytes.size - static_cast<std::size_t>(k) * chunk;
    unsigned char* const to = bytes.data.get() + k * chunk;
    if (left >= chunk) {
      read(k, to);
    } else {
      read(k, first);
      std::memcpy(to, first, left);
    }
  }
  branch->ResetAddress();
  return bytes;
}

}  // namespace sofie
