// What host tests of C++ share: checks that are counted.
#pragma once
#include <cstdio>

namespace {

int failures = 0;

void expect(bool holds, const char* claim, double value = 0) {
  if (holds) return;
  std::printf("FAILED: %s (%.9g)\n", claim, value);
  ++failures;
}

}  // namespace
