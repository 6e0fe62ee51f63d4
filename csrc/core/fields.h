// Argument structs whose members are known by name, so that one function of the binding fills any of them:
//
//   struct RaysArgs {
//     NLDF_FIELDS((const float*, poses),  // [F, 4, 4]
//                 (int64_t, rays));       // R
//   };
//
// declares the members in this order, and makes fields_of<RaysArgs>() a tuple of their names and places. A
// type with a comma needs a name of its own (using). The struct stays plain data, as kernels take it.
#pragma once

#include <tuple>

namespace nldf {

// An alias, because the code that nvcc hands to g++ puts a bare pointer to member in parentheses, with a
// warning.
template <class Struct, class Member>
using MemberOf = Member Struct::*;

template <class Struct, class Member>
struct Field {
  const char* name;
  MemberOf<Struct, Member> member;
};

template <class Struct, class Member>
constexpr Field<Struct, Member> field(const char* name, Member Struct::* member) {
  return {name, member};
}

template <class Struct>
constexpr auto fields_of() {
  return Struct::template list_fields<Struct>();
}

// The macro below hands over fields with a comma before each.
template <class... Fields>
constexpr auto make_fields(int, Fields... fields) {
  return std::make_tuple(fields...);
}

}  // namespace nldf

#define NLDF_FIELDS(...)                                                  \
  NLDF_EACH(NLDF_FIELD_DECLARED, __VA_ARGS__)                             \
  template <class Self>                                                   \
  static constexpr auto list_fields() {                                   \
    return nldf::make_fields(0 NLDF_EACH(NLDF_FIELD_NAMED, __VA_ARGS__)); \
  }                                                                       \
  static_assert(true, "takes the semicolon")
#define NLDF_FIELD_DECLARED(Type, name) Type name;
#define NLDF_FIELD_NAMED(Type, name) , nldf::field(#name, &Self::name)

// NLDF_EACH(macro, (a, b), (c, d)) is macro(a, b) macro(c, d), for up to 64 pairs. No macro is expanded
// within itself; so a step leaves the next one as NLDF_EACH_AGAIN (), and every further scan expands one.
#define NLDF_EACH(macro, ...) NLDF_SCAN_64(NLDF_EACH_STEP(macro, __VA_ARGS__))
#define NLDF_EACH_STEP(macro, pair, ...) \
  macro pair __VA_OPT__(NLDF_EACH_AGAIN NLDF_PARENTHESES(macro, __VA_ARGS__))
#define NLDF_EACH_AGAIN() NLDF_EACH_STEP
#define NLDF_PARENTHESES ()
#define NLDF_SCAN_64(...) NLDF_SCAN_16(NLDF_SCAN_16(NLDF_SCAN_16(NLDF_SCAN_16(__VA_ARGS__))))
#define NLDF_SCAN_16(...) NLDF_SCAN_4(NLDF_SCAN_4(NLDF_SCAN_4(NLDF_SCAN_4(__VA_ARGS__))))
#define NLDF_SCAN_4(...) NLDF_SCAN(NLDF_SCAN(NLDF_SCAN(NLDF_SCAN(__VA_ARGS__))))
#define NLDF_SCAN(...) __VA_ARGS__
