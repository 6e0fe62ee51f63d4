// The Python module; the only file that knows pybind11.
//
// Arguments are keyword-only, because a swapped pair of addresses would not be noticed. Addresses come as
// integers (Tensor.data_ptr()); everything about them was checked in Python.
#include <pybind11/pybind11.h>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "beams.h"
#include "rays.h"
#include "segments.h"

namespace py = pybind11;
using namespace pybind11::literals;

namespace {

using Address = std::uintptr_t;

// An address that becomes whichever pointer it is assigned to.
struct Pointer {
  Address address;
  template <class T>
  operator T*() const {
    return reinterpret_cast<T*>(address);
  }
};

template <class Args>
using Launcher = void (*)(const Args&, const nldf::Exec&);

template <class Args>
void run(Launcher<Args> launcher, const Args& args, int threads, int device, Address stream) {
  const py::gil_scoped_release release;
  launcher(args, nldf::Exec{threads, device, Pointer{stream}});
}

template <class T>
void bind_rays(py::module_& m, const char* name, Launcher<nldf::RaysArgs<T>> launcher) {
  m.def(
      name,
      [launcher](Address pose, Address intrinsics, Address pixels, Address origins, Address directions,
                 int64_t frames, int64_t per_frame, int threads, int device, Address stream) {
        const nldf::RaysArgs<T> args{Pointer{pose},    Pointer{intrinsics}, Pointer{pixels},
                                     Pointer{origins}, Pointer{directions}, frames,
                                     per_frame};
        run(launcher, args, threads, device, stream);
      },
      py::kw_only(), "pose"_a, "intrinsics"_a, "pixels"_a, "origins"_a, "directions"_a, "frames"_a,
      "per_frame"_a, "threads"_a, "device"_a, "stream"_a);
}

template <class T>
void bind_rays_backward(py::module_& m, const char* name, Launcher<nldf::RaysBackwardArgs<T>> launcher) {
  m.def(
      name,
      [launcher](Address pose, Address intrinsics, Address pixels, Address v_origins, Address v_directions,
                 Address partial, int64_t frames, int64_t per_frame, int64_t block, int threads, int device,
                 Address stream) {
        const nldf::RaysBackwardArgs<T> args{Pointer{pose},
                                             Pointer{intrinsics},
                                             Pointer{pixels},
                                             Pointer{v_origins},
                                             Pointer{v_directions},
                                             Pointer{partial},
                                             frames,
                                             per_frame,
                                             block};
        run(launcher, args, threads, device, stream);
      },
      py::kw_only(), "pose"_a, "intrinsics"_a, "pixels"_a, "v_origins"_a, "v_directions"_a, "partial"_a,
      "frames"_a, "per_frame"_a, "block"_a, "threads"_a, "device"_a, "stream"_a);
}

template <class T>
void bind_beams(py::module_& m, const char* name, Launcher<nldf::BeamsArgs<T>> launcher) {
  m.def(
      name,
      [launcher](Address origins, Address directions, Address encoded, int64_t rays, int64_t points,
                 int64_t frequencies, double near, double far, double scale, int threads, int device,
                 Address stream) {
        const nldf::BeamsArgs<T> args{
            Pointer{origins},     Pointer{directions}, Pointer{encoded},     rays, points, frequencies,
            static_cast<T>(near), static_cast<T>(far), static_cast<T>(scale)};
        run(launcher, args, threads, device, stream);
      },
      py::kw_only(), "origins"_a, "directions"_a, "encoded"_a, "rays"_a, "points"_a, "frequencies"_a,
      "near"_a, "far"_a, "scale"_a, "threads"_a, "device"_a, "stream"_a);
}

template <class T>
void bind_beams_backward(py::module_& m, const char* name, Launcher<nldf::BeamsBackwardArgs<T>> launcher) {
  m.def(
      name,
      [launcher](Address origins, Address directions, Address v_encoded, Address v_origins,
                 Address v_directions, int64_t rays, int64_t points, int64_t frequencies, double near,
                 double far, double scale, int threads, int device, Address stream) {
        const nldf::BeamsBackwardArgs<T> args{Pointer{origins},
                                              Pointer{directions},
                                              Pointer{v_encoded},
                                              Pointer{v_origins},
                                              Pointer{v_directions},
                                              rays,
                                              points,
                                              frequencies,
                                              static_cast<T>(near),
                                              static_cast<T>(far),
                                              static_cast<T>(scale)};
        run(launcher, args, threads, device, stream);
      },
      py::kw_only(), "origins"_a, "directions"_a, "v_encoded"_a, "v_origins"_a, "v_directions"_a, "rays"_a,
      "points"_a, "frequencies"_a, "near"_a, "far"_a, "scale"_a, "threads"_a, "device"_a, "stream"_a);
}

template <class T>
void bind_segments(py::module_& m, const char* name, Launcher<nldf::SegmentsArgs<T>> launcher) {
  m.def(
      name,
      [launcher](Address sigma, Address rgb, Address delta, Address colors, Address opacity, Address weights,
                 int64_t rays, int64_t samples, int64_t segments, int threads, int device, Address stream) {
        const nldf::SegmentsArgs<T> args{Pointer{sigma},   Pointer{rgb},     Pointer{delta}, Pointer{colors},
                                         Pointer{opacity}, Pointer{weights}, rays,           samples,
                                         segments};
        run(launcher, args, threads, device, stream);
      },
      py::kw_only(), "sigma"_a, "rgb"_a, "delta"_a, "colors"_a, "opacity"_a, "weights"_a, "rays"_a,
      "samples"_a, "segments"_a, "threads"_a, "device"_a, "stream"_a);
}

template <class T>
void bind_segments_backward(py::module_& m, const char* name,
                            Launcher<nldf::SegmentsBackwardArgs<T>> launcher) {
  m.def(
      name,
      [launcher](Address sigma, Address rgb, Address delta, Address v_colors, Address v_opacity,
                 Address v_sigma, Address v_rgb, Address v_delta, int64_t rays, int64_t samples,
                 int64_t segments, int threads, int device, Address stream) {
        const nldf::SegmentsBackwardArgs<T> args{Pointer{sigma},
                                                 Pointer{rgb},
                                                 Pointer{delta},
                                                 Pointer{v_colors},
                                                 Pointer{v_opacity},
                                                 Pointer{v_sigma},
                                                 Pointer{v_rgb},
                                                 Pointer{v_delta},
                                                 rays,
                                                 samples,
                                                 segments};
        run(launcher, args, threads, device, stream);
      },
      py::kw_only(), "sigma"_a, "rgb"_a, "delta"_a, "v_colors"_a, "v_opacity"_a, "v_sigma"_a, "v_rgb"_a,
      "v_delta"_a, "rays"_a, "samples"_a, "segments"_a, "threads"_a, "device"_a, "stream"_a);
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

  bind_rays<float>(m, "rays_cpu_float32", nldf::rays_cpu);
  bind_rays<double>(m, "rays_cpu_float64", nldf::rays_cpu);
  bind_rays_backward<float>(m, "rays_backward_cpu_float32", nldf::rays_backward_cpu);
  bind_rays_backward<double>(m, "rays_backward_cpu_float64", nldf::rays_backward_cpu);
  bind_beams<float>(m, "beams_cpu_float32", nldf::beams_cpu);
  bind_beams<double>(m, "beams_cpu_float64", nldf::beams_cpu);
  bind_beams_backward<float>(m, "beams_backward_cpu_float32", nldf::beams_backward_cpu);
  bind_beams_backward<double>(m, "beams_backward_cpu_float64", nldf::beams_backward_cpu);
  bind_segments<float>(m, "segments_cpu_float32", nldf::segments_cpu);
  bind_segments<double>(m, "segments_cpu_float64", nldf::segments_cpu);
  bind_segments_backward<float>(m, "segments_backward_cpu_float32", nldf::segments_backward_cpu);
  bind_segments_backward<double>(m, "segments_backward_cpu_float64", nldf::segments_backward_cpu);

#ifdef NLDF_WITH_CUDA
  m.attr("cuda_archs") = NLDF_CUDA_ARCHS;
  bind_rays<float>(m, "rays_cuda_float32", nldf::rays_cuda);
  bind_rays_backward<float>(m, "rays_backward_cuda_float32", nldf::rays_backward_cuda);
  bind_beams<float>(m, "beams_cuda_float32", nldf::beams_cuda);
  bind_beams_backward<float>(m, "beams_backward_cuda_float32", nldf::beams_backward_cuda);
  bind_segments<float>(m, "segments_cuda_float32", nldf::segments_cuda);
  bind_segments_backward<float>(m, "segments_backward_cuda_float32", nldf::segments_backward_cuda);
#else
  m.attr("cuda_archs") = "";
#endif
}
