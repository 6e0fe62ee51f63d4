// Host test of the portable kernels that have code of their own for processors without SSE, against plain
// loops. It needs no Python, so it also runs where only an emulator does. Prints one line a check that
// failed; exits with their number.
#include <cmath>
#include <vector>

#include "expect.h"
#include "ops/landmarks_lanes.h"
#include "ops/linear.h"
#include "ops/resmlp.h"

namespace {

constexpr nldf::Exec kExec{1, 0, nullptr};

// The same numbers on every machine, between -`most` and `most`.
int draw(int most) {
  static uint32_t state = 1;
  state = state * 1664525u + 1013904223u;
  return static_cast<int>((state >> 8) % static_cast<uint32_t>(2 * most + 1)) - most;
}

// Inputs whose largest number is 127 are their own integers, so every output is exact.
void test_linear() {
  constexpr int kRows = 7, kIn = 128, kOut = 96;
  std::vector<float> x(kRows * kIn), scale(kOut, 1.0f), bias(kOut), out(kRows * kOut);
  std::vector<int8_t> plain(kOut * kIn), packed(kOut * kIn);
  std::vector<int32_t> sums(kOut);
  for (float& value : x) value = static_cast<float>(draw(127));
  for (int row = 0; row < kRows; ++row) x[row * kIn + row] = row % 2 ? 127.0f : -127.0f;
  for (int n = 0; n < kOut; ++n) {
    bias[n] = static_cast<float>(draw(1000));
    for (int k = 0; k < kIn; ++k) {
      const int8_t weight = static_cast<int8_t>(draw(127));
      plain[n * kIn + k] = weight;
      packed[((n / 16 * (kIn / 4) + k / 4) * 16 + n % 16) * 4 + k % 4] = weight;
      sums[n] += weight;
    }
  }
  nldf::LinearArgs args{};
  args.x = x.data(), args.weights = packed.data(), args.sums = sums.data(), args.scale = scale.data();
  args.bias = bias.data(), args.out = out.data();
  args.rows = kRows, args.dim_in = kIn, args.dim_out = kOut;
  nldf::linear_cpu(args, kExec);
  for (int row = 0; row < kRows; ++row)
    for (int n = 0; n < kOut; ++n) {
      int sum = static_cast<int>(bias[n]);
      for (int k = 0; k < kIn; ++k) sum += static_cast<int>(x[row * kIn + k]) * plain[n * kIn + k];
      expect(out[row * kOut + n] == static_cast<float>(sum), "a linear layer sums integers exactly",
             out[row * kOut + n] - sum);
    }
}

// One network in float32 and in int16, beside the same in double.
void test_resmlp() {
  constexpr int kRays = 37, kIn = 5, kWidth = 32, kOut = 3, kLevels = 8191;
  const auto fraction = [] { return static_cast<float>(draw(1000)) / 4000.0f; };
  std::vector<float> x(kRays * kIn), frame(kWidth), head(kWidth * kIn), body(2 * kWidth * kWidth);
  std::vector<float> body_bias(2 * kWidth), tail(16 * kWidth), tail_bias(kOut), scale(2 * kWidth);
  std::vector<int16_t> integers(2 * kWidth * kWidth);
  for (auto* values : {&x, &frame, &head, &body_bias, &tail_bias})
    for (float& value : *values) value = fraction();
  for (float& value : scale) value = 1.0f / 512;
  // Weights that int16 holds exactly: what is left of the difference are the activations' levels.
  const auto at = [](int n, int k, int inputs) { return (n / 16 * inputs + k) * 16 + n % 16; };
  for (int layer = 0; layer < 2; ++layer)
    for (int n = 0; n < kWidth; ++n)
      for (int k = 0; k < kWidth; ++k) {
        const int weight = draw(127), start = layer * kWidth * kWidth;
        body[start + at(n, k, kWidth)] = static_cast<float>(weight) / 512;
        integers[start + at(n, k / 2, kWidth / 2) * 2 + k % 2] = static_cast<int16_t>(weight);
      }
  for (int n = 0; n < kOut; ++n)
    for (int k = 0; k < kWidth; ++k) tail[at(n, k, kWidth)] = fraction();

  std::vector<double> want(kRays * kOut);
  for (int ray = 0; ray < kRays; ++ray) {
    const auto layer = [&](const std::vector<double>& in, const float* weights, const float* bias,
                           int outputs) {
      const int inputs = static_cast<int>(in.size());
      std::vector<double> y(outputs);
      for (int n = 0; n < outputs; ++n) {
        y[n] = bias[n];
        for (int k = 0; k < inputs; ++k) y[n] += weights[at(n, k, inputs)] * in[k];
      }
      return y;
    };
    const auto relu = [](std::vector<double> values) {
      for (double& value : values) value = value > 0 ? value : 0;
      return values;
    };
    const std::vector<double> in(x.begin() + ray * kIn, x.begin() + (ray + 1) * kIn);
    const std::vector<double> y = relu(layer(in, head.data(), frame.data(), kWidth));
    const std::vector<double> hidden = relu(layer(y, body.data(), body_bias.data(), kWidth));
    std::vector<double> z = layer(hidden, body.data() + kWidth * kWidth, body_bias.data() + kWidth, kWidth);
    for (int k = 0; k < kWidth; ++k) z[k] += 2 * y[k];
    const std::vector<double> out = layer(z, tail.data(), tail_bias.data(), kOut);
    for (int n = 0; n < kOut; ++n) want[ray * kOut + n] = out[n];
  }

  std::vector<float> out(kRays * kOut);
  nldf::ResmlpArgs<float> args{};
  args.x = x.data(), args.frame_bias = frame.data(), args.head = head.data(), args.body = body.data();
  args.body_bias = body_bias.data(), args.tail = tail.data(), args.tail_bias = tail_bias.data();
  args.out = out.data(), args.frames = 1, args.rays = kRays, args.in_dim = kIn, args.width = kWidth;
  args.blocks = 1, args.out_dim = kOut;
  nldf::resmlp_cpu(args, kExec);
  for (int i = 0; i < kRays * kOut; ++i)
    expect(std::fabs(out[i] - want[i]) < 2e-6, "the network in float32 is that in double", out[i] - want[i]);
  args.body = nullptr, args.body_int16 = integers.data(), args.body_scale = scale.data();
  args.levels = kLevels;
  nldf::resmlp_cpu(args, kExec);
  for (int i = 0; i < kRays * kOut; ++i)
    expect(std::fabs(out[i] - want[i]) < 2e-3, "the network in int16 is that in double", out[i] - want[i]);
}

void test_any_within() {
  for (int lane = 0; lane < 4; ++lane) {
    float q[4] = {2, 2, 2, 2};
    const float reach[4] = {1, 1, 1, 1};
    expect(!nldf::any_within<float, 4>(q, reach), "nothing is within reach");
    q[lane] = 1;
    expect(nldf::any_within<float, 4>(q, reach), "one lane is within reach", lane);
    q[lane] = std::nanf("");
    expect(nldf::any_within<float, 4>(q, reach), "what is no number counts as within reach", lane);
  }
}

}  // namespace

int main() {
  test_linear();
  test_resmlp();
  test_any_within();
  return failures;
}
