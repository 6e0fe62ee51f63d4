// One step of Adam over a table of features that few entries of have a gradient; the only place this
// mathematics lives.
//
// A batch meets few entries of a fine grid. An entry whose gradient is zero in all features is passed over,
// moments and all (Mueller et al. 2022, section 4); any other steps as Kingma & Ba 2015, algorithm 1:
//   m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2,
//   p -= step m / (sqrt(v) / root + epsilon)
// with step = rate / (1 - beta1^t) and root = sqrt(1 - beta2^t). The caller has these, and 1 - beta, in
// double: of a beta near one, float32 leaves nothing.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/fields.h"
#include "core/hd.h"

namespace nldf {

template <class T>
struct AdamArgs {
  NLDF_FIELDS((T*, table),                                   // [N, F], changed
              (const T*, v_table),                           // [N, F], its gradient
              (const T*, rates),                             // [2], read in place of step and root, or null
              (T*, first),                                   // [N, F], m, changed
              (T*, second),                                  // [N, F], v, changed
              (int64_t, entries),                            // N
              (int64_t, features),                           // F
              (T, step), (T, root), (T, beta1), (T, beta2),  // as in the formulae
              (T, new1), (T, new2),                          // 1 - beta1, 1 - beta2
              (T, epsilon));
};

// The arguments with the step and root that hold when it runs: a recorded launch reads them anew.
template <class T>
NLDF_HD AdamArgs<T> adam_args(AdamArgs<T> args) {
  if (args.rates) args.step = args.rates[0], args.root = args.rates[1];
  return args;
}

// A feature whose entry has a gradient; `per_root` is 1 / root.
template <class T>
NLDF_HD void adam_feature(const AdamArgs<T>& args, T per_root, T g, T& table, T& first, T& second) {
  first = args.beta1 * first + args.new1 * g;
  second = args.beta2 * second + args.new2 * g * g;
  table -= args.step * first / (std::sqrt(second) * per_root + args.epsilon);
}

template <class T>
NLDF_HD void adam_entry(const AdamArgs<T>& args, int64_t entry) {
  const int64_t at = entry * args.features;
  const T* const gradient = args.v_table + at;
  bool met = false;
  for (int64_t f = 0; f < args.features; ++f) met |= gradient[f] != T(0);
  if (!met) return;
  const T per_root = T(1) / args.root;
#ifdef __CUDA_ARCH__
#pragma unroll 1  // four roots and quotients at once spill on sm_80
#endif
  for (int64_t f = 0; f < args.features; ++f)
    adam_feature(args, per_root, gradient[f], args.table[at + f], args.first[at + f], args.second[at + f]);
}

template <class T>
void adam_cpu(const AdamArgs<T>& args, const Exec& exec);
void adam_cuda(const AdamArgs<float>& args, const Exec& exec);

}  // namespace nldf
