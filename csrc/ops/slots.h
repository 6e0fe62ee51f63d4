// Slot attention over a point's features in several references (DFRF, section 3.2; Locatello et al. 2020),
// without gradients: what a looked-up feature still lacks, the attention, and the gated unit, in one pass.
//
// With x^ a vector moved and scaled to mean 0 and variance 1 (an epsilon of 1e-5), a reference's input is
//
//   i_r = (leaky_relu(wide_r + mix [place_r; relu(hidden_r + near place_r)] + point e))^,
//
// and each round gives every slot s the softmax over slots of (query s^) . i_r + score s^, an epsilon added,
// divided by its sum over references; m is the mean of i_r by these weights, and s <- gru(gates m, own s),
// s <- s + second relu(first s^). Biases are left out here. Layers that follow each other without anything
// between them are multiplied beforehand, those of keys and values and the layer norms' own weights too.
#pragma once

#include <cstdint>

#include "core/fields.h"
#include "core/hd.h"

namespace nldf {

constexpr float kSlotsLeast = 1e-8f;    // added to a softmax's weights
constexpr float kSlotsEpsilon = 1e-5f;  // of the layer norms
constexpr float kSlotsSlope = 0.01f;    // of the leaky ReLU
constexpr int kSlotsMost = 64;          // slots

// W is filled up to whole panels, Q, in what the layers give. The layers, in the order of their weights:
//   near [h, 2], point [W, E], mix [W, 2 + h], query [W, W], gates and own [3 Q, W] (reset, keep, new),
//   first and second [W, W]
// each with outputs filled up to whole panels.
struct SlotsArgs {
  NLDF_FIELDS((const float*, shares),   // [P, R, h + W] hidden, wide
              (const float*, places),   // [P, R, 2]
              (const float*, encoded),  // [P, E]
              (const float*, weights),  // the layers' panels, one behind the other
              (const float*, biases),   // theirs
              (const float*, score),    // [Q + 1] the weights, and the bias
              (const float*, start),    // [K, 5 Q + 1] at first: a slot, its query, its own gates, its score
              (float*, out),            // [P, K W + E] slots, and the encoded point once more
              (int64_t, count),         // P
              (int64_t, references),    // R, at least 1
              (int64_t, hidden),        // h
              (int64_t, width),         // W
              (int64_t, points),        // E
              (int64_t, slots),         // K, at most kSlotsMost
              (int64_t, rounds));       // of attention, at least 1
};

void slots_cpu(const SlotsArgs& args, const Exec& exec);

}  // namespace nldf
