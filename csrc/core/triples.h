// Vectors of numbers that lie in memory in pairs (pixels) and triples (points, colours), and sums and
// products along a vector.
//
// n lanes of triples are three vectors: number n v + i of the memory is lane i of vector v, and belongs to
// triple (n v + i) / 3 as its part (n v + i) % 3. Like the headers it builds on, each instruction set
// compiles this one with its own flags: all is in an unnamed namespace, and nothing but types comes from the
// standard library.
#pragma once

#include <utility>

#include "core/lanes.h"

namespace nldf {
namespace {

// Lane i of the result is lane Where::at(i) of a, or of b where that is n or more.
template <class Where, class V, int... I>
inline V shuffle_lanes(V a, V b, std::integer_sequence<int, I...>) {
  return __builtin_shufflevector(a, b, Where::at(I)...);
}

template <class L>
struct Along {
  using T = typename L::Scalar;
  using V = typename L::Vector;
  static constexpr int n = L::lanes;

  template <class Where>
  static V shuffle(V a, V b) {
    return shuffle_lanes<Where>(a, b, std::make_integer_sequence<int, n>());
  }
  static V load(const T* from) {
    V v;
    memcpy(&v, from, sizeof(V));
    return v;
  }
  static void store(T* to, V v) { memcpy(to, &v, sizeof(V)); }
  static V all(T value) { return value - V{}; }

  // `count` of n numbers; the others are `rest`.
  static V load_some(const T* from, int64_t count, T rest) {
    if (count >= n) return load(from);
    V v = all(rest);
    memcpy(&v, from, sizeof(T) * static_cast<size_t>(count));
    return v;
  }
  static void store_some(T* to, V v, int64_t count) {
    if (count >= n) return store(to, v);
    memcpy(to, &v, sizeof(T) * static_cast<size_t>(count));
  }

  template <int By>
  struct Up {  // lane i of b becomes lane i + By; a fills the lowest
    static constexpr int at(int i) { return i < By ? n - By + i : n + i - By; }
  };
  template <int By>
  struct Down {  // lane i of a becomes lane i - By; b fills the highest
    static constexpr int at(int i) { return i + By; }
  };
  struct Last {
    static constexpr int at(int) { return n - 1; }
  };
  struct First {
    static constexpr int at(int) { return 0; }
  };

  // Product of this and all lower lanes.
  template <int By = 1>
  static V products(V v) {
    if constexpr (By < n)
      return products<2 * By>(v * shuffle<Up<By>>(all(T(1)), v));
    else
      return v;
  }
  // Sum of this and all higher lanes.
  template <int By = 1>
  static V sums_above(V v) {
    if constexpr (By < n)
      return sums_above<2 * By>(v + shuffle<Down<By>>(v, V{}));
    else
      return v;
  }
  static T sum(V v) { return sums_above(v)[0]; }
};

// Lane i of a pick from three vectors is number at(i) of their 3 n lanes.
template <class L>
struct Triples {
  using T = typename L::Scalar;
  using A = Along<L>;
  using V = typename L::Vector;
  static constexpr int n = L::lanes;

  template <int Part>
  struct OfTwo {
    static constexpr int at(int i) { return 3 * i + Part < 2 * n ? 3 * i + Part : 0; }
  };
  template <int Part>
  struct OfThird {
    static constexpr int at(int i) { return 3 * i + Part < 2 * n ? i : 3 * i + Part - n; }
  };
  // Part (0, 1, 2) of each of n triples.
  template <int Part>
  static V part(const V triples[3]) {
    const V two = A::template shuffle<OfTwo<Part>>(triples[0], triples[1]);
    return A::template shuffle<OfThird<Part>>(two, triples[2]);
  }

  template <int Number>
  struct OfFirstParts {
    static constexpr int at(int i) {
      const int part = (n * Number + i) % 3, lane = (n * Number + i) / 3;
      return part < 2 ? part * n + lane : 0;
    }
  };
  template <int Number>
  struct OfLastPart {
    static constexpr int at(int i) { return (n * Number + i) % 3 < 2 ? i : n + (n * Number + i) / 3; }
  };
  template <int Number>
  static V joined(V x, V y, V z) {
    const V two = A::template shuffle<OfFirstParts<Number>>(x, y);
    return A::template shuffle<OfLastPart<Number>>(two, z);
  }
  // The triples (x, y, z) of n lanes.
  static void join(V x, V y, V z, V triples[3]) {
    triples[0] = joined<0>(x, y, z);
    triples[1] = joined<1>(x, y, z);
    triples[2] = joined<2>(x, y, z);
  }

  template <int Number>
  struct OfTriple {
    static constexpr int at(int i) { return (n * Number + i) / 3; }
  };
  // Every number of n triples from its triple's lane.
  static void spread(V lanes, V triples[3]) {
    triples[0] = A::template shuffle<OfTriple<0>>(lanes, lanes);
    triples[1] = A::template shuffle<OfTriple<1>>(lanes, lanes);
    triples[2] = A::template shuffle<OfTriple<2>>(lanes, lanes);
  }
  template <int Number>
  struct OfFirstLanes {
    static constexpr int at(int i) { return (n * Number + i) % 3 == 1 ? n + i : i; }
  };
  template <int Number>
  struct OfLastLane {
    static constexpr int at(int i) { return (n * Number + i) % 3 == 2 ? n + i : i; }
  };
  template <int Number>
  static V repeated(V x, V y, V z) {
    const V two = A::template shuffle<OfFirstLanes<Number>>(x, y);
    return A::template shuffle<OfLastLane<Number>>(two, z);
  }
  // The same triple n times.
  static void repeat(const T values[3], V triples[3]) {
    const V x = A::all(values[0]), y = A::all(values[1]), z = A::all(values[2]);
    triples[0] = repeated<0>(x, y, z);
    triples[1] = repeated<1>(x, y, z);
    triples[2] = repeated<2>(x, y, z);
  }
  static void load(const T* from, V triples[3]) {
    for (int v = 0; v < 3; ++v) triples[v] = A::load(from + v * n);
  }
  static void store(T* to, const V triples[3]) {
    for (int v = 0; v < 3; ++v) A::store(to + v * n, triples[v]);
  }
  // Lane i is number From + i of two vectors' 2 n.
  template <int From>
  struct Behind {
    static constexpr int at(int i) { return From + i < 2 * n ? From + i : 0; }
  };
  // Adds up the triples: the upper half of them to the lower one, as long as there are two halves. In
  // registers: read back from memory, every half would wait for two stores.
  static void sum(const V triples[3], T values[3]) {
    static_assert(n >= 4, "the first half of the triples is more than a vector, the second fits one");
    const V low = triples[0] + A::template shuffle<Behind<n / 2>>(triples[1], triples[2]);
    const V high = triples[1] + A::template shuffle<Behind<n / 2>>(triples[2], triples[2]);
    const V all = add_halves<3 * n / 8>(low + A::template shuffle<Behind<3 * n / 4>>(low, high));
    for (int c = 0; c < 3; ++c) values[c] = all[c];
  }
  template <int Half>
  static V add_halves(V held) {
    if constexpr (Half >= 3)
      return add_halves<Half / 2>(held + A::template shuffle<Behind<Half>>(held, held));
    else
      return held;
  }
};

}  // namespace
}  // namespace nldf
