// The Python module; the only file that knows pybind11.
//
// Arguments are keyword-only, because a swapped pair of addresses would not be noticed. Addresses come as
// integers (Tensor.data_ptr()); everything about them was checked in Python.
#include <pybind11/pybind11.h>

#include <array>
#include <cstdint>
#include <string>
#include <tuple>
#include <type_traits>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "core/isa.h"
#include "ops/adam.h"
#include "ops/affine.h"
#include "ops/aim.h"
#include "ops/attention.h"
#include "ops/beams.h"
#include "ops/compact.h"
#include "ops/convnet.h"
#include "ops/grid.h"
#include "ops/landmarks.h"
#include "ops/linear.h"
#include "ops/lines.h"
#include "ops/matte.h"
#include "ops/pixels.h"
#include "ops/planes.h"
#include "ops/portrait.h"
#include "ops/rays.h"
#include "ops/references.h"
#include "ops/resmlp.h"
#include "ops/resmlp_cuda.h"
#include "ops/resmlp_pack.h"
#include "ops/samples.h"
#include "ops/segments.h"
#include "ops/slots.h"

namespace py = pybind11;

namespace {

using Address = std::uintptr_t;

// Values as Python hands them over: addresses and sizes are int, numbers are float.
template <class T>
void assign(T*& member, const py::handle& value) {
  member = reinterpret_cast<T*>(value.cast<Address>());
}
template <class T>
std::enable_if_t<std::is_arithmetic_v<T>> assign(T& member, const py::handle& value) {
  member = static_cast<T>(value.cast<std::conditional_t<std::is_floating_point_v<T>, double, int64_t>>());
}

// A struct within an argument struct comes as a dictionary.
template <class T>
std::enable_if_t<std::is_class_v<T>> assign(T& member, const py::handle& value);

// A name that lives for ever, with its hash: looking it up in a dictionary makes no new string.
PyObject* interned(const char* name) {
  return PyUnicode_InternFromString(name);
}

template <class Member>
void take(const py::dict& given, PyObject* name, Member& member) {
  PyObject* const value = PyDict_GetItemWithError(given.ptr(), name);
  if (!value) throw py::type_error("missing argument " + py::handle(name).cast<std::string>());
  assign(member, value);
}

// All fields of a struct.
template <class T>
void take_all(const py::dict& given, T& args) {
  constexpr auto fields = nldf::fields_of<T>();
  static const auto names =
      std::apply([](const auto&... field) { return std::array{interned(field.name)...}; }, fields);
  std::apply(
      [&](const auto&... field) {
        auto name = names.begin();
        (take(given, *name++, args.*field.member), ...);
      },
      fields);
}
template <class T>
std::enable_if_t<std::is_class_v<T>> assign(T& member, const py::handle& value) {
  take_all(value.cast<py::dict>(), member);
}

// A kernel as a function of keyword arguments: the fields of its argument struct, then those of Exec.
template <class Args>
void bind(py::module_& m, const char* name, void (*launcher)(const Args&, const nldf::Exec&)) {
  m.def(name, [launcher](const py::kwargs& given) {
    static PyObject *const threads = interned("threads"), *const device = interned("device"),
                           *const stream = interned("stream");
    Args args{};
    nldf::Exec exec{};
    take_all(given, args);
    take(given, threads, exec.threads);
    take(given, device, exec.device);
    take(given, stream, exec.stream);
    constexpr std::size_t expected = std::tuple_size_v<decltype(nldf::fields_of<Args>())> + 3;
    if (given.size() != expected) {
      throw py::type_error("expected " + std::to_string(expected) + " arguments, got " +
                           std::to_string(given.size()));
    }
    const py::gil_scoped_release release;
    launcher(args, exec);
  });
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "Kernels of nldf_engine. Use nldf_engine.ops, which checks what it passes here.";
  m.attr("version") = NLDF_VERSION;
#ifdef _OPENMP
  m.attr("openmp") = _OPENMP;
#else
  m.attr("openmp") = 0;
#endif
  m.def("cpu_isa", [] { return nldf::isa_name(nldf::cpu_isa()); });

  bind<nldf::RaysArgs<float>>(m, "rays_cpu_float32", nldf::rays_cpu);
  bind<nldf::RaysArgs<double>>(m, "rays_cpu_float64", nldf::rays_cpu);
  bind<nldf::RaysBackwardArgs<float>>(m, "rays_backward_cpu_float32", nldf::rays_backward_cpu);
  bind<nldf::RaysBackwardArgs<double>>(m, "rays_backward_cpu_float64", nldf::rays_backward_cpu);
  bind<nldf::BeamsArgs<float>>(m, "beams_cpu_float32", nldf::beams_cpu);
  bind<nldf::BeamsArgs<double>>(m, "beams_cpu_float64", nldf::beams_cpu);
  bind<nldf::BeamsArgs<float, nldf::Half>>(m, "beams_half_cpu_float32", nldf::beams_cpu);
  bind<nldf::BeamsBackwardArgs<float>>(m, "beams_backward_cpu_float32", nldf::beams_backward_cpu);
  bind<nldf::BeamsBackwardArgs<double>>(m, "beams_backward_cpu_float64", nldf::beams_backward_cpu);
  bind<nldf::SegmentsArgs<float>>(m, "segments_cpu_float32", nldf::segments_cpu);
  bind<nldf::SegmentsArgs<double>>(m, "segments_cpu_float64", nldf::segments_cpu);
  bind<nldf::SegmentsBackwardArgs<float>>(m, "segments_backward_cpu_float32", nldf::segments_backward_cpu);
  bind<nldf::SegmentsBackwardArgs<double>>(m, "segments_backward_cpu_float64", nldf::segments_backward_cpu);
  bind<nldf::LandmarksArgs<float>>(m, "landmarks_cpu_float32", nldf::landmarks_cpu);
  bind<nldf::LandmarksArgs<double>>(m, "landmarks_cpu_float64", nldf::landmarks_cpu);
  bind<nldf::LandmarksBackwardArgs<float>>(m, "landmarks_backward_cpu_float32", nldf::landmarks_backward_cpu);
  bind<nldf::LandmarksBackwardArgs<double>>(m, "landmarks_backward_cpu_float64",
                                            nldf::landmarks_backward_cpu);
  bind<nldf::ReferencesArgs<float>>(m, "references_cpu_float32", nldf::references_cpu);
  bind<nldf::ReferencesArgs<double>>(m, "references_cpu_float64", nldf::references_cpu);
  bind<nldf::ReferencesBackwardArgs<float>>(m, "references_backward_cpu_float32",
                                            nldf::references_backward_cpu);
  bind<nldf::ReferencesBackwardArgs<double>>(m, "references_backward_cpu_float64",
                                             nldf::references_backward_cpu);
  bind<nldf::GridArgs<float>>(m, "grid_cpu_float32", nldf::grid_cpu);
  bind<nldf::GridArgs<double>>(m, "grid_cpu_float64", nldf::grid_cpu);
  bind<nldf::GridBackwardArgs<float>>(m, "grid_backward_cpu_float32", nldf::grid_backward_cpu);
  bind<nldf::GridBackwardArgs<double>>(m, "grid_backward_cpu_float64", nldf::grid_backward_cpu);
  bind<nldf::SamplesArgs<float>>(m, "samples_cpu_float32", nldf::samples_cpu);
  bind<nldf::SamplesArgs<double>>(m, "samples_cpu_float64", nldf::samples_cpu);
  bind<nldf::CompactArgs>(m, "compact_cpu_uint8", nldf::compact_cpu);
  bind<nldf::CompactOverArgs<float>>(m, "compact_over_cpu_float32", nldf::compact_over_cpu);
  bind<nldf::CompactOverArgs<double>>(m, "compact_over_cpu_float64", nldf::compact_over_cpu);
  bind<nldf::AdamArgs<float>>(m, "adam_cpu_float32", nldf::adam_cpu);
  bind<nldf::AdamArgs<double>>(m, "adam_cpu_float64", nldf::adam_cpu);
  bind<nldf::ResmlpArgs<float>>(m, "resmlp_cpu_float32", nldf::resmlp_cpu);
  bind<nldf::ResmlpArgs<double>>(m, "resmlp_cpu_float64", nldf::resmlp_cpu);
  bind<nldf::ResmlpBackwardArgs<float>>(m, "resmlp_backward_cpu_float32", nldf::resmlp_backward_cpu);
  bind<nldf::ResmlpBackwardArgs<double>>(m, "resmlp_backward_cpu_float64", nldf::resmlp_backward_cpu);
  bind<nldf::ResmlpPackArgs>(m, "resmlp_pack_cpu_int16", nldf::resmlp_pack);
  bind<nldf::PlanesArgs<float>>(m, "planes_cpu_float32", nldf::planes_cpu);
  bind<nldf::PlanesArgs<double>>(m, "planes_cpu_float64", nldf::planes_cpu);
  bind<nldf::LinesArgs<float>>(m, "lines_cpu_float32", nldf::lines_cpu);
  bind<nldf::LinesArgs<double>>(m, "lines_cpu_float64", nldf::lines_cpu);
  bind<nldf::LinesBackwardArgs<float>>(m, "lines_backward_cpu_float32", nldf::lines_backward_cpu);
  bind<nldf::LinesBackwardArgs<double>>(m, "lines_backward_cpu_float64", nldf::lines_backward_cpu);
  bind<nldf::MatteArgs<float>>(m, "matte_cpu_float32", nldf::matte_cpu);
  bind<nldf::MatteArgs<double>>(m, "matte_cpu_float64", nldf::matte_cpu);
  bind<nldf::MatteArgs<float>>(m, "matte_backward_cpu_float32", nldf::matte_backward_cpu);
  bind<nldf::MatteArgs<double>>(m, "matte_backward_cpu_float64", nldf::matte_backward_cpu);
  bind<nldf::PixelsArgs>(m, "pixels_cpu_float32", nldf::pixels_cpu);
  bind<nldf::PixelsLookArgs>(m, "pixels_look_cpu_float32", nldf::pixels_look_cpu);
  bind<nldf::AimArgs<float>>(m, "aim_cpu_float32", nldf::aim_cpu);
  bind<nldf::AimArgs<double>>(m, "aim_cpu_float64", nldf::aim_cpu);
  bind<nldf::AimArgs<float>>(m, "aim_backward_cpu_float32", nldf::aim_backward_cpu);
  bind<nldf::AimArgs<double>>(m, "aim_backward_cpu_float64", nldf::aim_backward_cpu);
  bind<nldf::AimLinesArgs<float>>(m, "aim_lines_cpu_float32", nldf::aim_lines_cpu);
  bind<nldf::AimLinesArgs<double>>(m, "aim_lines_cpu_float64", nldf::aim_lines_cpu);
  bind<nldf::AimLinesArgs<float>>(m, "aim_lines_backward_cpu_float32", nldf::aim_lines_backward_cpu);
  bind<nldf::AimLinesArgs<double>>(m, "aim_lines_backward_cpu_float64", nldf::aim_lines_backward_cpu);
  bind<nldf::AffineArgs>(m, "affine_cpu_float32", nldf::affine_cpu);
  bind<nldf::AttentionArgs>(m, "attention_cpu_float32", nldf::attention_cpu);
  bind<nldf::LinearArgs>(m, "linear_cpu_float32", nldf::linear_cpu);
  bind<nldf::PortraitArgs>(m, "portrait_cpu_float32", nldf::portrait_cpu);
  bind<nldf::ConvnetArgs>(m, "convnet_cpu_float32", nldf::convnet_cpu);
  bind<nldf::SlotsArgs>(m, "slots_cpu_float32", nldf::slots_cpu);

#ifdef NLDF_WITH_CUDA
  m.attr("cuda_archs") = NLDF_CUDA_ARCHS;
  bind<nldf::RaysArgs<float>>(m, "rays_cuda_float32", nldf::rays_cuda);
  bind<nldf::RaysBackwardArgs<float>>(m, "rays_backward_cuda_float32", nldf::rays_backward_cuda);
  bind<nldf::BeamsArgs<float>>(m, "beams_cuda_float32", nldf::beams_cuda);
  bind<nldf::BeamsArgs<float, nldf::Half>>(m, "beams_half_cuda_float32", nldf::beams_half_cuda);
  bind<nldf::BeamsBackwardArgs<float>>(m, "beams_backward_cuda_float32", nldf::beams_backward_cuda);
  bind<nldf::SegmentsArgs<float>>(m, "segments_cuda_float32", nldf::segments_cuda);
  bind<nldf::SegmentsBackwardArgs<float>>(m, "segments_backward_cuda_float32", nldf::segments_backward_cuda);
  bind<nldf::LandmarksArgs<float>>(m, "landmarks_cuda_float32", nldf::landmarks_cuda);
  bind<nldf::LandmarksBackwardArgs<float>>(m, "landmarks_backward_cuda_float32",
                                           nldf::landmarks_backward_cuda);
  bind<nldf::ReferencesArgs<float>>(m, "references_cuda_float32", nldf::references_cuda);
  bind<nldf::ReferencesBackwardArgs<float>>(m, "references_backward_cuda_float32",
                                            nldf::references_backward_cuda);
  bind<nldf::GridArgs<float>>(m, "grid_cuda_float32", nldf::grid_cuda);
  bind<nldf::GridBackwardArgs<float>>(m, "grid_backward_cuda_float32", nldf::grid_backward_cuda);
  bind<nldf::SamplesArgs<float>>(m, "samples_cuda_float32", nldf::samples_cuda);
  bind<nldf::AdamArgs<float>>(m, "adam_cuda_float32", nldf::adam_cuda);
  bind<nldf::CompactArgs>(m, "compact_cuda_uint8", nldf::compact_cuda);
  bind<nldf::CompactOverArgs<float>>(m, "compact_over_cuda_float32", nldf::compact_over_cuda);
  bind<nldf::PlanesArgs<float, nldf::Half>>(m, "planes_cuda_float32", nldf::planes_cuda);
  bind<nldf::LinesArgs<float>>(m, "lines_cuda_float32", nldf::lines_cuda);
  bind<nldf::LinesBackwardArgs<float>>(m, "lines_backward_cuda_float32", nldf::lines_backward_cuda);
  bind<nldf::MatteArgs<float>>(m, "matte_cuda_float32", nldf::matte_cuda);
  bind<nldf::MatteArgs<float>>(m, "matte_backward_cuda_float32", nldf::matte_backward_cuda);
  bind<nldf::AimArgs<float>>(m, "aim_cuda_float32", nldf::aim_cuda);
  bind<nldf::AimArgs<float>>(m, "aim_backward_cuda_float32", nldf::aim_backward_cuda);
  bind<nldf::AimLinesArgs<float>>(m, "aim_lines_cuda_float32", nldf::aim_lines_cuda);
  bind<nldf::AimLinesArgs<float>>(m, "aim_lines_backward_cuda_float32", nldf::aim_lines_backward_cuda);
  bind<nldf::PortraitHalfArgs>(m, "portrait_cuda_float32", nldf::portrait_cuda);
  bind<nldf::ResmlpCudaArgs>(m, "resmlp_mma_cuda_float32", nldf::resmlp_mma_cuda);
  bind<nldf::ResmlpCudaArgs>(m, "resmlp_wgmma_cuda_float32", nldf::resmlp_wgmma_cuda);
#else
  m.attr("cuda_archs") = "";
#endif
}
