// Lines through planes and their gradients on the CPU: groups, parts and threads. The arithmetic is in
// planes_group.h and lines_backward.h.
#include <algorithm>
#include <vector>

#include "core/scratch.h"
#include "ops/lines.h"
#include "ops/planes_kernels.h"

namespace nldf {

namespace {

// Lines of one frame that a kernel takes at once.
struct Group {
  int64_t frame, first;
  int rows;
  int64_t place;  // of its first ray, counted with those that fill up vectors
};

int64_t up_to(int64_t count, int64_t multiple) {
  return (count + multiple - 1) / multiple * multiple;
}

std::vector<Group> make_groups(const int64_t* starts, int64_t frames, int most, int lanes) {
  std::vector<Group> groups;
  int64_t place = 0;
  for (int64_t f = 0; f < frames; ++f) {
    for (int64_t first = starts[f]; first < starts[f + 1]; first += most) {
      const int rows = static_cast<int>(std::min<int64_t>(most, starts[f + 1] - first));
      groups.push_back({f, first, rows, place});
      place += up_to(rows, lanes);
    }
  }
  return groups;
}

template <class T>
PlanesRays<T> load_rays(const T* lines, const Group& group) {
  PlanesRays<T> rays{};
  rays.rows = group.rows;
  for (int i = 0; i < group.rows; ++i) {
    const T* const line = lines + 4 * (group.first + i);
    for (int axis = 0; axis < 2; ++axis) {
      rays.start[axis][i] = line[axis];
      rays.slope[axis][i] = line[2 + axis];
    }
  }
  return rays;
}

// Adds parts 1, 2, ... to the first.
template <class T>
void add_parts(T* values, int64_t parts, int64_t size) {
  for (int64_t part = 1; part < parts; ++part) {
    NLDF_LANES
    for (int64_t i = 0; i < size; ++i) values[i] += values[part * size + i];
  }
}

}  // namespace

template <class T>
void lines_cpu(const LinesArgs<T>& args, const Exec& exec) {
  const PlanesKernels<T>& isa = planes_kernels(T());
  const PlanesModel<T> model(args.network);
  const std::vector<Group> groups = make_groups(args.starts, args.frames, isa.group, isa.lanes);
  const int64_t width = args.network.width, colors = 3 * args.network.planes;
  const int64_t results = (colors + 1) * kPlanesGroup, each = lines_kept(args.network);
  if (args.kept) {  // what no group fills
    const int64_t end = groups.empty() ? 0 : groups.back().place + up_to(groups.back().rows, isa.lanes);
    const int64_t all = args.starts[args.frames] + kLinesRoom * args.frames;
    std::fill(args.kept + end * each, args.kept + all * each, T(0));
  }
  parallel_for(static_cast<int64_t>(groups.size()), 4, exec.threads, [&](int64_t begin, int64_t end) {
    T* const out = scratch<T>(results + each * isa.group);
    for (int64_t g = begin; g < end; ++g) {
      const Group& group = groups[static_cast<size_t>(g)];
      isa.forward(model, load_rays(args.lines, group), args.warp_bias + group.frame * width,
                  args.bias + group.frame * width, out,
                  args.kept ? args.kept + group.place * each : out + results);
      for (int i = 0; i < group.rows; ++i) {
        for (int64_t c = 0; c < colors; ++c)
          args.segments[(group.first + i) * colors + c] = out[c * kPlanesGroup + i];
        args.opacity[group.first + i] = out[colors * kPlanesGroup + i];
      }
    }
  });
}

template <class T>
void lines_backward_cpu(const LinesBackwardArgs<T>& args, const Exec& exec) {
  const PlanesKernels<T>& isa = planes_kernels(T());
  const PlanesNetwork<T>& net = args.network;
  const PlanesModel<T> model(net);
  const std::vector<Group> groups = make_groups(args.starts, args.frames, isa.group, isa.lanes);
  const int64_t count = static_cast<int64_t>(groups.size()), size = isa.backward_scratch(net);
  const int64_t lines = args.starts[args.frames], colors = 3 * net.planes;
  const int64_t each = net.levels * net.features, warp_each = net.warp_levels * net.features;
  const int64_t kept = lines_kept(net);
  const int64_t frame_size = args.frames * net.width;
  const int64_t weights = planes_weights(net), biases = planes_biases(net);
  parallel_for(args.parts, 1, exec.threads, [&](int64_t part, int64_t) {
    T* const memory = scratch<T>(size);
    for (int64_t g = count * part / args.parts; g < count * (part + 1) / args.parts; ++g) {
      const Group& group = groups[static_cast<size_t>(g)];
      const int64_t frame = group.frame * net.width, first = group.first;
      PlanesGradients<T> to{};
      to.warp_bias = args.warp_bias + frame;
      to.bias = args.bias + frame;
      to.v_warp_bias = args.v_warp_bias + part * frame_size + frame;
      to.v_bias = args.v_bias + part * frame_size + frame;
      to.v_weights = args.v_weights + part * weights;
      to.v_biases = args.v_biases + part * biases;
      to.v_segments = args.v_segments + first * colors;
      to.v_opacity = args.v_opacity + first;
      to.v_lines = args.v_lines + 4 * first;
      to.warp_places = args.warp_places + 2 * first;
      to.v_warp_features = args.v_warp_features + warp_each * first;
      to.places = args.places + 2 * first;
      to.v_features = args.v_features + each * first;
      to.transposed = args.transposed;
      to.lines = lines;
      isa.backward(model, load_rays(args.lines, group), to, args.kept + group.place * kept, memory);
    }
  });
  add_parts(args.v_warp_bias, args.parts, frame_size);
  add_parts(args.v_bias, args.parts, frame_size);
  add_parts(args.v_weights, args.parts, weights);
  add_parts(args.v_biases, args.parts, biases);
}

template void lines_cpu(const LinesArgs<float>&, const Exec&);
template void lines_cpu(const LinesArgs<double>&, const Exec&);
template void lines_backward_cpu(const LinesBackwardArgs<float>&, const Exec&);
template void lines_backward_cpu(const LinesBackwardArgs<double>&, const Exec&);

}  // namespace nldf
