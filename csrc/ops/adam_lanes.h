// Adam in vectors of features: adam.h's formulae, where an entry that was not met keeps its numbers by a
// mask, because whether one was met is nothing that a processor could guess.
#pragma once

#include <cstring>

#include "ops/adam.h"

namespace nldf {
namespace {

constexpr int kAdamBlock = 16;  // entries that are passed over together where none was met

// `a` where the mask is ones, `b` where it is zeros; spelt in bits, because compilers make slow masked stores
// of a choice.
inline __attribute__((always_inline)) float chosen(uint32_t mask, float a, float b) {
  uint32_t one, other;
  memcpy(&one, &a, sizeof(one));
  memcpy(&other, &b, sizeof(other));
  other ^= (one ^ other) & mask;
  memcpy(&b, &other, sizeof(b));
  return b;
}

// `entries` entries from `entry` on; compiled for a whole block and for what is left of the last one.
template <int Features>
inline __attribute__((always_inline)) void adam_block(const AdamArgs<float>& args, int64_t entry,
                                                      int entries) {
  constexpr uint32_t kMagnitude = 0x7fffffffu;
  const int count = entries * Features;
  const float* const gradient = args.v_table + entry * Features;
  uint32_t met[kAdamBlock * Features], any = 0;
  memcpy(met, gradient, sizeof(float) * count);
  NLDF_LANES
  for (int i = 0; i < count; ++i) met[i] &= kMagnitude;
  for (int i = 0; i < count; ++i) any |= met[i];
  if (!any) return;
  for (int e = 0; e < entries; ++e) {
    uint32_t sum = 0;
    for (int f = 0; f < Features; ++f) sum |= met[e * Features + f];
    for (int f = 0; f < Features; ++f) met[e * Features + f] = sum ? ~0u : 0u;
  }
  const float per_root = 1.0f / args.root;
  float *const table = args.table + entry * Features, *const first = args.first + entry * Features;
  float* const second = args.second + entry * Features;
  NLDF_LANES
  for (int i = 0; i < count; ++i) {
    float p = table[i], m = first[i], v = second[i];
    adam_feature(args, per_root, gradient[i], p, m, v);
    table[i] = chosen(met[i], p, table[i]);
    first[i] = chosen(met[i], m, first[i]);
    second[i] = chosen(met[i], v, second[i]);
  }
}

template <int Features>
void adam_blocks(const AdamArgs<float>& given, int64_t begin, int64_t end) {
  const AdamArgs<float> args = given;  // what is written can't be a number of these
  for (; begin + kAdamBlock <= end; begin += kAdamBlock) adam_block<Features>(args, begin, kAdamBlock);
  if (begin < end) adam_block<Features>(args, begin, static_cast<int>(end - begin));
}

inline void adam_lanes(const AdamArgs<float>& args, int64_t begin, int64_t end) {
  switch (args.features) {
    case 1:
      return adam_blocks<1>(args, begin, end);
    case 2:
      return adam_blocks<2>(args, begin, end);
    case 4:
      return adam_blocks<4>(args, begin, end);
    case 8:
      return adam_blocks<8>(args, begin, end);
    default:
      for (int64_t entry = begin; entry < end; ++entry) adam_entry(args, entry);
  }
}

}  // namespace
}  // namespace nldf
