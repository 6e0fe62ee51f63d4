// Runs every micro-kernel on a real GPU and writes its output words to FOLDER/<name>.bin, little-endian:
//   nvcc -std=c++17 -arch=sm_90a -Icsrc -Itests/simt tests/simt/golden.cu tests/simt/micro.cu -o golden
//   ./golden tests/simt/golden
// test_simt_ptx.py compares the runner's results with these files. It takes a GPU of compute capability 9.0.
#include <cuda_runtime.h>

#include <cstdio>
#include <string>
#include <vector>

#include "core/launch.cuh"
#include "micro.h"

namespace {

// As inputs() of test_simt_ptx.py: small multiples of 1/8, exact as halves.
std::vector<uint32_t> inputs() {
  std::vector<uint32_t> words(nldf::kMicroWords);
  for (int i = 0; i < nldf::kMicroWords; ++i) {
    const __half2 pair =
        __floats2half2_rn(static_cast<float>(i * 7 % 17 - 8) / 8, static_cast<float>(i * 5 % 13 - 6) / 8);
    words[i] = *reinterpret_cast<const uint32_t*>(&pair);
  }
  return words;
}

struct Micro {
  const char* name;
  void (*run)(const nldf::MicroArgs&, const nldf::Exec&);
  size_t words;
};
#define ENTRY(name, blocks, threads, shared, cluster, words) {#name, nldf::micro_##name##_cuda, words},
const Micro kMicro[] = {NLDF_MICRO(ENTRY)};

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) return fprintf(stderr, "usage: %s FOLDER\n", arguments[0]), 2;
  const std::vector<uint32_t> words = inputs();
  uint32_t *in = nullptr, *out = nullptr;
  nldf::check_cuda(cudaMalloc(&in, words.size() * 4), "cudaMalloc");
  nldf::check_cuda(cudaMemcpy(in, words.data(), words.size() * 4, cudaMemcpyHostToDevice), "cudaMemcpy");
  for (const Micro& micro : kMicro) {
    std::vector<uint32_t> result(micro.words);
    nldf::check_cuda(cudaMalloc(&out, result.size() * 4), "cudaMalloc");
    nldf::check_cuda(cudaMemset(out, 0, result.size() * 4), "cudaMemset");
    micro.run({in, out}, {1, 0, nullptr});
    nldf::check_cuda(cudaMemcpy(result.data(), out, result.size() * 4, cudaMemcpyDeviceToHost), micro.name);
    nldf::check_cuda(cudaFree(out), "cudaFree");
    const std::string path = std::string(arguments[1]) + "/" + micro.name + ".bin";
    FILE* file = fopen(path.c_str(), "wb");
    if (!file || fwrite(result.data(), 4, result.size(), file) != result.size() || fclose(file)) {
      fprintf(stderr, "can't write %s\n", path.c_str());
      return 1;
    }
    printf("%s: %zu words\n", path.c_str(), result.size());
  }
}
