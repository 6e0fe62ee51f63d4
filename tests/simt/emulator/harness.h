// Launchers by name, for tests that load them as a shared library: SIMT_KERNEL(segments, nldf::segments_cuda)
// in any source makes one known. Its argument struct names its fields (csrc/core/fields.h), so a test sets
// them by name; each run happens in a process of its own, because faults end it.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <tuple>
#include <type_traits>

#include "core/fields.h"
#include "core/hd.h"

namespace simt {

struct Kernel {
  std::function<bool(const std::string& field, int64_t integer, double number)> set;
  std::function<void()> run;
  std::string fields;  // separated by commas
};
void add_kernel(const char* name, Kernel kernel);

template <class T>
void assign(T*& member, int64_t integer, double) {
  member = reinterpret_cast<T*>(integer);
}
template <class T>
std::enable_if_t<std::is_arithmetic_v<T>> assign(T& member, int64_t integer, double number) {
  member = std::is_floating_point_v<T> ? static_cast<T>(number) : static_cast<T>(integer);
}

// Fields of structs within an argument struct are named with a point between: "network.planes".
template <class Struct>
bool set_field(Struct& args, const std::string& wanted, int64_t integer, double number) {
  bool found = false;
  auto take = [&](const std::string& name, auto& member) {
    if constexpr (std::is_class_v<std::remove_reference_t<decltype(member)>>) {
      if (wanted.rfind(name + '.', 0) == 0)
        found |= set_field(member, wanted.substr(name.size() + 1), integer, number);
    } else if (wanted == name) {
      assign(member, integer, number);
      found = true;
    }
  };
  std::apply([&](const auto&... field) { (take(field.name, args.*field.member), ...); },
             nldf::fields_of<Struct>());
  return found;
}
template <class Struct>
std::string list_fields(const std::string& prefix, const Struct& args) {
  std::string names;
  auto add = [&](const std::string& name, const auto& member) {
    if constexpr (std::is_class_v<std::remove_cv_t<std::remove_reference_t<decltype(member)>>>)
      names += list_fields(prefix + name + '.', member);
    else
      names += prefix + name + ',';
  };
  std::apply([&](const auto&... field) { (add(field.name, args.*field.member), ...); },
             nldf::fields_of<Struct>());
  return names;
}

template <class Args>
bool register_kernel(const char* name, void (*launcher)(const Args&, const nldf::Exec&)) {
  static Args args{};
  Kernel kernel;
  kernel.set = [](const std::string& wanted, int64_t integer, double number) {
    return set_field(args, wanted, integer, number);
  };
  kernel.run = [launcher] { launcher(args, nldf::Exec{1, 0, nullptr}); };
  kernel.fields = list_fields("", args);
  add_kernel(name, std::move(kernel));
  return true;
}

}  // namespace simt

#define SIMT_KERNEL(name, launcher) \
  [[maybe_unused]] static const bool simt_known_##name = simt::register_kernel(#name, launcher)
