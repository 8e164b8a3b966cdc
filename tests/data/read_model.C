// Reads a model's .root file with ROOT alone; tests/test_storage.py judges what it prints.
void read_model(const char* path) {
  std::unique_ptr<TFile> file(TFile::Open(path));
  const auto* text = file->Get<TObjString>("sofie_ir");
  TTreeReader numbers("w/t0", file.get());
  TTreeReaderValue<float> number(numbers, "data");
  double sum = 0;
  while (numbers.Next()) sum += std::abs(*number);
  TTreeReader mask("w/t1", file.get());
  TTreeReaderValue<unsigned char> bit(mask, "data");
  std::string bits;
  while (mask.Next()) bits += std::to_string(*bit);
  const auto* empty = file->Get<TTree>("w/t2");
  printf("%d %.3f %s %lld\n", text->GetString().Length(), sum, bits.c_str(), empty->GetEntries());
}
