// The members of an argument struct by name, so that one function of the binding fills any of them.
#pragma once

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

}  // namespace nldf
