// Lines through planes and their gradients on the CPU: packing, groups, parts and threads. The arithmetic is
// in planes_group.h and lines_backward.h.
#include <algorithm>
#include <memory>
#include <vector>

#include "core/scratch.h"
#include "ops/lines.h"
#include "ops/planes_kernels.h"

namespace nldf {

namespace {

// Lines of one frame that a kernel takes at once: `rows` of the chosen ones from number `first` on.
struct Group {
  int64_t frame, first;
  int rows;
  int64_t place;  // of its first line, counted with those that fill up vectors
};

// The lines that are evaluated, frame by frame.
struct Chosen {
  std::vector<int64_t> lines;  // increasing numbers among all
  std::vector<Group> groups;
  int64_t places = 0;  // lines with those that fill up vectors

  Chosen(const uint8_t* inside, int64_t frames, int64_t rays, int most, int lanes) {
    lines.reserve(static_cast<size_t>(frames * rays));
    for (int64_t f = 0; f < frames; ++f) {
      int64_t first = static_cast<int64_t>(lines.size());
      for (int64_t i = f * rays; i < (f + 1) * rays; ++i)
        if (!inside || inside[i]) lines.push_back(i);
      for (const int64_t end = static_cast<int64_t>(lines.size()); first < end; first += most) {
        const int rows = static_cast<int>(std::min<int64_t>(most, end - first));
        groups.push_back({f, first, rows, places});
        places += (rows + lanes - 1) / lanes * lanes;
      }
    }
  }
  const int64_t* of(const Group& group) const { return lines.data() + group.first; }
};

template <class T>
PlanesRays<T> load_rays(const T* lines, const int64_t* chosen, int rows) {
  PlanesRays<T> rays{};
  rays.rows = rows;
  for (int i = 0; i < rows; ++i) {
    const T* const line = lines + 4 * chosen[i];
    for (int axis = 0; axis < 2; ++axis) {
      rays.start[axis][i] = line[axis];
      rays.slope[axis][i] = line[2 + axis];
    }
  }
  return rays;
}

// A layer as it is given, and the size of what it is filled up to.
template <class T>
struct Layer {
  const T* weights;
  const T* bias;
  int64_t inputs, columns, outputs;
  int64_t wide_inputs, wide_outputs;
};

// A network in the order in which the kernels read it (planes.h), and the frames' biases.
template <class T>
class Packed {
 public:
  std::vector<Layer<T>> layers;
  std::vector<T> depths, weights, biases, transposed;
  std::vector<T> frame_bias[2];  // [F, width], of the warp net and of the second network
  PlanesNetwork<T> network{};

  Packed(const LinesNetwork& net, const T* inputs, int64_t frames, bool backward) : frames_(frames) {
    width_ = planes_wide(net.width);
    for (int64_t l = 0; l < net.layers(); ++l) {
      Layer<T> layer{reinterpret_cast<const T*>(net.weights[l]),
                     reinterpret_cast<const T*>(net.biases[l]),
                     net.inputs(l),
                     net.columns(l),
                     net.outputs(l),
                     0,
                     0};
      layer.wide_inputs = net.first(l) ? layer.inputs : width_;
      layer.wide_outputs = net.tail(l) ? layer.outputs : width_;
      pack(layer.weights, layer.columns, 1, layer.inputs, layer.outputs, layer.wide_inputs,
           layer.wide_outputs, weights);
      if (backward)
        pack(layer.weights, 1, layer.columns, layer.outputs, layer.inputs, layer.wide_outputs,
             layer.wide_inputs, transposed);
      if (net.first(l)) {
        add_frames(layer, inputs, net.frame, frame_bias[l > 0]);
      } else {
        const size_t begin = biases.size();
        biases.resize(begin + static_cast<size_t>(planes_wide(layer.wide_outputs)));
        std::copy(layer.bias, layer.bias + layer.outputs, biases.begin() + static_cast<int64_t>(begin));
      }
      layers.push_back(layer);
    }
    depths.assign(net.depths, net.depths + net.planes + 1);
    network.depths = depths.data();
    network.warp_table = reinterpret_cast<const T*>(net.tables[0]);
    network.tables = net.tables + 1;
    network.warp_resolutions = net.warp_resolutions, network.warp_offsets = net.warp_offsets;
    network.resolutions = net.resolutions, network.offsets = net.offsets;
    network.weights = weights.data(), network.biases = biases.data();
    network.warp_levels = net.warp_levels, network.levels = net.levels, network.features = net.features;
    network.planes = net.planes, network.ambient = net.ambient, network.width = width_;
    network.warp_hidden = net.warp_hidden, network.hidden = net.hidden;
    network.warp_scale = static_cast<T>(net.warp_scale);
    network.opacity_slope = static_cast<T>(net.opacity_slope);
  }
  Packed(const Packed&) = delete;
  Packed& operator=(const Packed&) = delete;

  int64_t width() const { return width_; }

 private:
  int64_t frames_, width_ = 0;

  // Appends [ceil(outputs / 16)][inputs][16], filled up with zeros, of a matrix that is read by two strides.
  static void pack(const T* from, int64_t by_output, int64_t by_input, int64_t inputs, int64_t outputs,
                   int64_t wide_inputs, int64_t wide_outputs, std::vector<T>& to) {
    const size_t begin = to.size();
    to.resize(begin + static_cast<size_t>(planes_wide(wide_outputs) * wide_inputs));
    T* const packed = to.data() + begin;
    for (int64_t o = 0; o < outputs; ++o)
      for (int64_t i = 0; i < inputs; ++i)
        packed[o / kPanel * kPanel * wide_inputs + i * kPanel + o % kPanel] =
            from[o * by_output + i * by_input];
  }

  void add_frames(const Layer<T>& layer, const T* inputs, int64_t numbers, std::vector<T>& to) const {
    to.resize(static_cast<size_t>(frames_ * width_));
    for (int64_t f = 0; f < frames_; ++f) {
      for (int64_t o = 0; o < layer.outputs; ++o) {
        const T* const weights = layer.weights + o * layer.columns + layer.inputs;
        T sum = layer.bias[o];
        for (int64_t c = 0; c < numbers; ++c) sum += weights[c] * inputs[f * numbers + c];
        to[static_cast<size_t>(f * width_ + o)] = sum;
      }
    }
  }
};

// Of a packed network's gradients: numbers of weights and biases.
template <class T>
int64_t packed_weights(const std::vector<Layer<T>>& layers) {
  int64_t sum = 0;
  for (const Layer<T>& layer : layers)
    sum += planes_wide(layer.wide_inputs) * planes_wide(layer.wide_outputs);
  return sum;
}

// Sums of several parts, which are added up in their order: results depend on their number, not on the
// threads' luck.
template <class T>
class Parts {
 public:
  Parts(int64_t parts, int64_t size) : parts_(parts), size_(size), sums_(static_cast<size_t>(parts * size)) {}
  T* of(int64_t part) { return sums_.data() + part * size_; }
  const T* sum() {
    for (int64_t part = 1; part < parts_; ++part) {
      T *const to = of(0), *const from = of(part);
      NLDF_LANES
      for (int64_t i = 0; i < size_; ++i) to[i] += from[i];
    }
    return of(0);
  }

 private:
  int64_t parts_, size_;
  std::vector<T> sums_;
};

// The gradients of layers as they are given, and of the frames' inputs, from the packed ones.
template <class T>
void unpack(const LinesBackwardArgs<T>& args, const Packed<T>& packed, const T* v_weights, const T* v_biases,
            const T* const* v_frame_bias) {
  const LinesNetwork& net = args.network;
  const int64_t frame = net.frame, width = packed.width();
  T* to = args.v_parameters + lines_table(net, net.planes + 1);
  T* to_bias = to;
  for (const Layer<T>& layer : packed.layers) to_bias += layer.outputs * layer.columns;
  std::fill(args.v_inputs, args.v_inputs + args.frames * frame, T(0));
  for (int64_t l = 0; l < net.layers(); ++l) {
    const Layer<T>& layer = packed.layers[static_cast<size_t>(l)];
    const int64_t wide = planes_wide(layer.wide_inputs);
    for (int64_t o = 0; o < layer.outputs; ++o)
      std::copy(v_weights + o * wide, v_weights + o * wide + layer.inputs, to + o * layer.columns);
    if (net.first(l)) {
      const T* const v_bias = v_frame_bias[l > 0];
      for (int64_t o = 0; o < layer.outputs; ++o) {
        T* const row = to + o * layer.columns + layer.inputs;
        const T* const weights = layer.weights + o * layer.columns + layer.inputs;
        std::fill(row, row + frame, T(0));
        to_bias[o] = T(0);
        for (int64_t f = 0; f < args.frames; ++f) {
          const T v = v_bias[f * width + o];
          to_bias[o] += v;
          for (int64_t c = 0; c < frame; ++c) {
            row[c] += v * args.inputs[f * frame + c];
            args.v_inputs[f * frame + c] += v * weights[c];
          }
        }
      }
    } else {
      std::copy(v_biases, v_biases + layer.outputs, to_bias);
      v_biases += planes_wide(layer.wide_outputs);
    }
    v_weights += planes_wide(layer.wide_outputs) * wide;
    to += layer.outputs * layer.columns;
    to_bias += layer.outputs;
  }
}

}  // namespace

template <class T>
void lines_cpu(const LinesArgs<T>& args, const Exec& exec) {
  const PlanesKernels<T>& isa = planes_kernels(T());
  const Packed<T> packed(args.network, args.inputs, args.frames, false);
  const PlanesModel<T> model(packed.network);
  const Chosen chosen(args.inside, args.frames, args.rays, isa.group, isa.lanes);
  const int64_t width = packed.width(), colors = 3 * args.network.planes;
  const int64_t results = (colors + 1) * kPlanesGroup, each = lines_kept(args.network);
  if (args.inside) {
    const int64_t all = args.frames * args.rays;
    std::fill(args.segments, args.segments + all * colors, T(0));
    std::fill(args.opacity, args.opacity + all, T(0));
  }
  parallel_for(static_cast<int64_t>(chosen.groups.size()), 4, exec.threads, [&](int64_t begin, int64_t end) {
    T* const out = scratch<T>(results + each * isa.group);
    for (int64_t g = begin; g < end; ++g) {
      const Group& group = chosen.groups[static_cast<size_t>(g)];
      const int64_t* const numbers = chosen.of(group);
      isa.forward(model, load_rays(args.lines, numbers, group.rows),
                  packed.frame_bias[0].data() + group.frame * width,
                  packed.frame_bias[1].data() + group.frame * width, out,
                  args.kept ? args.kept + group.place * each : out + results);
      for (int i = 0; i < group.rows; ++i) {
        for (int64_t c = 0; c < colors; ++c)
          args.segments[numbers[i] * colors + c] = out[c * kPlanesGroup + i];
        args.opacity[numbers[i]] = out[colors * kPlanesGroup + i];
      }
    }
  });
}

template <class T>
void lines_backward_cpu(const LinesBackwardArgs<T>& args, const Exec& exec) {
  const PlanesKernels<T>& isa = planes_kernels(T());
  const LinesNetwork& net = args.network;
  const Packed<T> packed(net, args.inputs, args.frames, true);
  const PlanesModel<T> model(packed.network);
  const Chosen chosen(args.inside, args.frames, args.rays, isa.group, isa.lanes);
  const int64_t count = static_cast<int64_t>(chosen.groups.size());
  const int64_t size = isa.backward_scratch(packed.network), kept = lines_kept(net);
  const int64_t lines = static_cast<int64_t>(chosen.lines.size()), colors = 3 * net.planes;
  const int64_t each = net.levels * net.features, warp_each = net.warp_levels * net.features;
  const int64_t frame_size = args.frames * packed.width();
  Parts<T> v_warp_bias(args.parts, frame_size), v_bias(args.parts, frame_size);
  Parts<T> v_weights(args.parts, packed_weights(packed.layers));
  Parts<T> v_biases(args.parts, static_cast<int64_t>(packed.biases.size()));
  // Where grids were read, and their features' gradients: the warp's, then those of the planes.
  const std::unique_ptr<T[]> held(
      new T[static_cast<size_t>(lines * (2 + warp_each + net.planes * (2 + each)))]);
  T *const warp_places = held.get(), *const v_warp_features = warp_places + 2 * lines;
  T *const places = v_warp_features + warp_each * lines, *const v_features = places + 2 * net.planes * lines;
  if (args.inside) std::fill(args.v_lines, args.v_lines + 4 * args.frames * args.rays, T(0));
  parallel_for(args.parts, 1, exec.threads, [&](int64_t part, int64_t) {
    T* const memory = scratch<T>(size);
    T v_segments[kPlanesGroup * 3 * kPlanesMost], v_opacity[kPlanesGroup], v_lines[kPlanesGroup * 4];
    for (int64_t g = count * part / args.parts; g < count * (part + 1) / args.parts; ++g) {
      const Group& group = chosen.groups[static_cast<size_t>(g)];
      const int64_t* const numbers = chosen.of(group);
      const int64_t frame = group.frame * packed.width(), first = group.first;
      for (int i = 0; i < group.rows; ++i) {
        const T* const from = args.v_segments + numbers[i] * colors;
        std::copy(from, from + colors, v_segments + i * colors);
        v_opacity[i] = args.v_opacity[numbers[i]];
      }
      PlanesGradients<T> to{};
      to.warp_bias = packed.frame_bias[0].data() + frame;
      to.bias = packed.frame_bias[1].data() + frame;
      to.v_warp_bias = v_warp_bias.of(part) + frame;
      to.v_bias = v_bias.of(part) + frame;
      to.v_weights = v_weights.of(part);
      to.v_biases = v_biases.of(part);
      to.v_segments = v_segments;
      to.v_opacity = v_opacity;
      to.v_lines = v_lines;
      to.warp_places = warp_places + 2 * first;
      to.v_warp_features = v_warp_features + warp_each * first;
      to.places = places + 2 * first;
      to.v_features = v_features + each * first;
      to.transposed = packed.transposed.data();
      to.lines = lines;
      isa.backward(model, load_rays(args.lines, numbers, group.rows), to, args.kept + group.place * kept,
                   memory);
      for (int i = 0; i < group.rows; ++i)
        std::copy(v_lines + 4 * i, v_lines + 4 * (i + 1), args.v_lines + 4 * numbers[i]);
    }
  });
  const T* const frame_sums[2] = {v_warp_bias.sum(), v_bias.sum()};
  unpack(args, packed, v_weights.sum(), v_biases.sum(), frame_sums);
  for (int64_t t = 0; t <= net.planes; ++t) {
    GridBackwardArgs<T> grid{};
    grid.x = t ? places + 2 * (t - 1) * lines : warp_places;
    grid.table = reinterpret_cast<const T*>(net.tables[t]);
    grid.v_out = t ? v_features + (t - 1) * each * lines : v_warp_features;
    grid.v_table = args.v_parameters + lines_table(net, t);
    grid.resolutions = t ? net.resolutions : net.warp_resolutions;
    grid.offsets = t ? net.offsets : net.warp_offsets;
    grid.points = lines, grid.dims = 2;
    grid.levels = t ? net.levels : net.warp_levels, grid.features = net.features;
    grid_backward_cpu(grid, exec);
  }
}

template void lines_cpu(const LinesArgs<float>&, const Exec&);
template void lines_cpu(const LinesArgs<double>&, const Exec&);
template void lines_backward_cpu(const LinesBackwardArgs<float>&, const Exec&);
template void lines_backward_cpu(const LinesBackwardArgs<double>&, const Exec&);

}  // namespace nldf
