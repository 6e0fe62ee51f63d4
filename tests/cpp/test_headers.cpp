// Host test of csrc's headers: they compile without torch and Python, and their parts hold by themselves.
// Prints one line a check that failed; exits with their number.
#include <cmath>
#include <limits>
#include <vector>

#include "core/hd.h"
#include "core/maths.h"
#include "expect.h"
#include "ops/beams.h"
#include "ops/rays.h"
#include "ops/segments.h"

namespace {

void test_parallel_for() {
  for (int threads : {1, 3}) {
    for (int64_t count : {0, 1, 7, 8, 9, 100}) {
      std::vector<int> visits(static_cast<size_t>(count), 0);
      nldf::parallel_for(count, 8, threads, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) ++visits[static_cast<size_t>(i)];
      });
      for (int visit : visits) expect(visit == 1, "parallel_for visits every index once", visit);
    }
  }
}

void test_exponential() {
  double worst = 0;
  for (double x = -87.3; x < 88.7; x += 0.00037) {
    const float rounded = static_cast<float>(x);
    const double exact = std::exp(static_cast<double>(rounded));
    worst = std::fmax(worst, std::fabs(nldf::exponential(rounded) / exact - 1));
  }
  expect(worst < 1.6e-7, "exponential: relative error", worst);
  constexpr float infinity = std::numeric_limits<float>::infinity();
  expect(nldf::exponential(0.0f) == 1, "exponential(0) is 1");
  expect(nldf::exponential(-0.0f) == 1, "exponential(-0) is 1");
  expect(nldf::exponential(-100.0f) == 0, "exponential(-100) is 0");
  expect(nldf::exponential(-1e10f) == 0, "exponential(-1e10) is 0");
  expect(nldf::exponential(-infinity) == 0, "exponential(-inf) is 0");
  expect(nldf::exponential(infinity) == infinity, "exponential(inf) is inf");
  expect(nldf::exponential(88.8f) == infinity, "exponential(88.8) overflows");
  expect(std::isnan(nldf::exponential(std::nanf(""))), "exponential keeps NaN");
}

void test_sine_cosine() {
  double worst = 0;
  for (double x = -40; x < 40; x += 0.00113) {
    const float rounded = static_cast<float>(x);
    nldf::Angle<float> angle;
    nldf::make_angle(rounded, angle);
    for (float times = 1; times <= 512; times *= 2) {
      float sine, cosine;
      nldf::sine_cosine(angle, times, sine, cosine);
      const double exact = static_cast<double>(rounded) * times;
      worst = std::fmax(worst, std::fabs(sine - std::sin(exact)));
      worst = std::fmax(worst, std::fabs(cosine - std::cos(exact)));
    }
  }
  expect(worst < 2e-7, "sine_cosine: absolute error", worst);
}

// One lane at a time, as the device does it, gives what many lanes give, as the CPU does it.
void test_lanes_agree() {
  constexpr int kLanes = 12, kFrequencies = 3;
  float x[kLanes], together[kLanes * 7], alone[kLanes * 7], v_together[kLanes], v_alone[1];
  for (int i = 0; i < kLanes; ++i) x[i] = 0.37f * static_cast<float>(i) - 1.5f;
  nldf::encode_coordinates<kLanes>(x, kFrequencies, kLanes, together);
  for (int i = 0; i < kLanes; ++i) nldf::encode_coordinates<1>(x + i, kFrequencies, kLanes, alone + i);
  for (int i = 0; i < kLanes * 7; ++i) {
    expect(std::fabs(together[i] - alone[i]) < 2e-7, "encode_coordinates: lanes", i);
  }
  nldf::encode_coordinates_backward<kLanes>(x, kFrequencies, kLanes, together, v_together);
  for (int i = 0; i < kLanes; ++i) {
    nldf::encode_coordinates_backward<1>(x + i, kFrequencies, kLanes, together + i, v_alone);
    expect(std::fabs(v_together[i] - v_alone[0]) < 2e-6, "encode_coordinates_backward: lanes", i);
  }
}

void test_beam_distances() {
  nldf::BeamsArgs<float> args{};
  args.near = 0.3f, args.far = 1.1f;
  for (int64_t points : {1, 2, 3, 16, 17}) {
    args.points = points;
    expect(nldf::beam_distance(args, 0) == 0.3f, "the first point lies at near");
    expect(points == 1 || nldf::beam_distance(args, points - 1) == 1.1f, "the last point lies at far");
    for (int64_t k = 1; k < points; ++k) {
      expect(nldf::beam_distance(args, k) > nldf::beam_distance(args, k - 1), "distances increase");
    }
  }
}

void test_ray() {
  const double pose[16] = {0, 0, 1, 4, 0, 1, 0, 5, -1, 0, 0, 6, 0, 0, 0, 1};
  const double intrinsics[4] = {2, 2, 1, 1}, pixel[2] = {1, 3};
  double origin[3], direction[3];
  nldf::make_ray(nldf::load_camera(pose, intrinsics, 0), pixel, origin, direction);
  expect(origin[0] == 4 && origin[1] == 5 && origin[2] == 6, "the ray starts at the pose's translation");
  const double half = std::sqrt(0.5);
  expect(
      std::fabs(direction[0] - half) < 1e-15 && std::fabs(direction[1] - half) < 1e-15 && direction[2] == 0,
      "the ray is rotated and of unit length", direction[0]);
}

void test_segments() {
  // Odd sizes on purpose: 3 segments of 37 samples, more than one block of exponentials.
  constexpr int kSamples = 111, kSegments = 3;
  std::vector<double> sigma(kSamples, 2.0), delta(kSamples, 0.01), rgb(3 * kSamples, 1.0), weights(kSamples);
  double colors[3 * kSegments], opacity;
  const nldf::SegmentsArgs<double> args{sigma.data(),   rgb.data(), delta.data(), colors,    &opacity,
                                        weights.data(), 1,          kSamples,     kSegments, 3,
                                        nullptr,        nullptr,    nullptr};
  nldf::composite_ray(args, 0);
  expect(std::fabs(opacity - (1 - std::exp(-2.0 * 0.01 * kSamples))) < 1e-14, "a slab's opacity", opacity);
  double sum = 0;
  for (double weight : weights) sum += weight;
  expect(std::fabs(sum - opacity) < 1e-14, "weights sum to the opacity", sum);
  expect(std::fabs(colors[0] + colors[3] + colors[6] - opacity) < 1e-14, "white segments sum to the opacity");
  expect(std::fabs(colors[0] - (1 - std::exp(-0.02 * 37))) < 1e-14, "the first segment's colour", colors[0]);
}

void test_features() {
  // Five channels that are multiples of the first one; all samples behind the opaque one are hidden.
  constexpr int kSamples = 6, kChannels = 5;
  std::vector<double> sigma(kSamples, 2.0), delta(kSamples, 0.1), features(kSamples * kChannels);
  sigma[3] = 1e9;
  for (int i = 0; i < kSamples * kChannels; ++i) features[i] = (i / kChannels + 1) * (i % kChannels + 1);
  std::vector<double> v_sigma(kSamples), v_features(kSamples * kChannels), v(kChannels, 1.0);
  double sums[kChannels], opacity, v_opacity = 0;
  nldf::SegmentsArgs<double> args{};
  args.sigma = sigma.data(), args.features = features.data(), args.delta = delta.data();
  args.composited = sums, args.opacity = &opacity;
  args.rays = args.segments = 1, args.samples = kSamples, args.channels = kChannels;
  nldf::composite_ray(args, 0);
  for (int c = 1; c < kChannels; ++c)
    expect(std::fabs(sums[c] - (c + 1) * sums[0]) < 1e-13, "channels are composited alike", sums[c]);
  nldf::SegmentsBackwardArgs<double> back{};
  back.sigma = args.sigma, back.features = args.features, back.delta = args.delta;
  back.v_composited = v.data(), back.v_opacity = &v_opacity;
  back.v_sigma = v_sigma.data(), back.v_features = v_features.data();
  back.rays = back.segments = 1, back.samples = kSamples, back.channels = kChannels;
  nldf::composite_ray_backward(back, 0);
  expect(std::fabs(v_features[kChannels] - std::exp(-0.2) * (1 - std::exp(-0.2))) < 1e-14,
         "the gradient of a feature is its sample's weight", v_features[kChannels]);
  for (int i = 4 * kChannels; i < kSamples * kChannels; ++i)
    expect(v_features[i] == 0, "what is hidden has no gradient", v_features[i]);
}

}  // namespace

int main() {
  test_parallel_for();
  test_exponential();
  test_sine_cosine();
  test_lanes_agree();
  test_beam_distances();
  test_ray();
  test_segments();
  test_features();
  return failures;
}
