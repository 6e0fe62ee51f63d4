// Vectors of rays: how a tile lies in memory, for vectors of any size.
//
// Lanes are rays: a tile lies in memory as [group][feature][rays of a group], so a layer's output has the
// layout of the next one's input, a weight is a broadcast scalar, and nothing is shuffled between head and
// tail. A ray's sums run in one order whatever the tile, so results depend neither on tiles nor threads.
//
// Everything is in an unnamed namespace and takes nothing from the standard library: each instruction set
// compiles these headers with its own flags, and the linker must never give one's code to another.
#pragma once

#include <cstdint>
#include <cstring>

namespace nldf {
namespace {

#define NLDF_UNROLL _Pragma("GCC unroll 16")

// Scalars T in vectors of `Bytes`, blocked in registers as Features x Vectors.
template <class T, int Bytes, int Features, int Vectors>
struct Lanes {
  using Scalar = T;
  typedef T Vector __attribute__((vector_size(Bytes)));
  static constexpr int lanes = Bytes / static_cast<int>(sizeof(T));
  static constexpr int features = Features;
  static constexpr int vectors = Vectors;
  static constexpr int group = lanes * vectors;  // rays
};

enum class Store { plain, relu, add };

// Keeps NaN, as torch does.
template <class Vector>
inline Vector relu(Vector x) {
  return Vector{} > x ? Vector{} : x;
}

// How a tile of `rows` rays is cut: full groups, and a last one of fewer vectors.
template <class L>
struct Cut {
  int64_t full;  // groups of L::vectors vectors
  int rest;      // vectors of the last group, 0 where there is none

  explicit Cut(int64_t rows) {
    const int64_t vectors = (rows + L::lanes - 1) / L::lanes;
    full = vectors / L::vectors;
    rest = static_cast<int>(vectors % L::vectors);
  }
  int64_t groups() const { return full + (rest != 0); }
  int vectors(int64_t group) const { return group < full ? L::vectors : rest; }
};

// Calls op<V>() with V = vectors, which is 1 .. L::vectors.
template <class L, class Op>
inline void with_vectors(int vectors, const Op& op) {
  static_assert(L::vectors == 3, "one case for each number of vectors");
  switch (vectors) {
    case 3:
      return op.template run<3>();
    case 2:
      return op.template run<2>();
    default:
      return op.template run<1>();
  }
}

// Rays up to whole vectors.
template <class L>
inline int64_t padded(int64_t rows) {
  return (rows + L::lanes - 1) / L::lanes * L::lanes;
}

}  // namespace
}  // namespace nldf
