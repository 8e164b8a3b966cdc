// Kernels of object detection: pooling of regions of interest, and choice among overlapping boxes.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "basics.hxx"

namespace sofie {
inline namespace SOFIE_ISA {

namespace detail {
/// Where a sample between the pixels of an image lies, and how much each of the four around it counts.
template <class T>
struct Bilinear {
  std::size_t position[4] = {0, 0, 0, 0};
  T weight[4] = {T(0), T(0), T(0), T(0)};

  /// A sample more than one pixel outside counts nothing.
  Bilinear(T y, T x, std::size_t height, std::size_t width) {
    if (!(y >= T(-1) && y <= T(height) && x >= T(-1) && x <= T(width))) return;
    y = std::max(y, T(0));
    x = std::max(x, T(0));
    std::size_t top = static_cast<std::size_t>(y), left = static_cast<std::size_t>(x);
    if (top >= height - 1) y = T(top = height - 1);
    if (left >= width - 1) x = T(left = width - 1);
    const std::size_t bottom = std::min(top + 1, height - 1), right = std::min(left + 1, width - 1);
    const T down = y - T(top), along = x - T(left);
    const std::size_t places[4] = {top * width + left, top * width + right, bottom * width + left,
                                   bottom * width + right};
    const T weights[4] = {(1 - down) * (1 - along), (1 - down) * along, down * (1 - along), down * along};
    for (int k = 0; k < 4; ++k) position[k] = places[k], weight[k] = weights[k];
  }
};

/// The samples of a bin along one axis, at start + (i + 0.5) * step for i < count.
template <class T>
struct Samples {
  T count, step;
  bool given;  // the count was asked for, else it grows with the bin

  /// @param asked how many samples a bin has, 0: as many as pixels; none where the bin is NaN.
  Samples(T bin, std::size_t asked) : given(asked > 0) {
    count = given ? T(asked) : std::ceil(bin);
    if (!(count > 0)) count = T(0);
    step = bin / count;
  }

  /// How many samples, from number `first` on, may touch n pixels: regions can be as large as numbers are.
  std::size_t touching(T start, std::size_t n, T& first) const {
    first = T(0);
    const T most = given ? count : T(2 * n + 8);  // steps are at least half a pixel
    const T before = std::floor((T(-1) - start) / step) - 2;
    if (!given && before > 0) first = std::min(before, count);
    const T left = count - first;
    return static_cast<std::size_t>(left < most ? left : most);
  }
};
}  // namespace detail

/// Each region of x[batch][channels][height][width] averaged (its maximum if P::maximum) to
/// out[regions][channels][out_height][out_width].
///
/// P::spatial_scale, P::sampling_ratio (samples per bin and axis, 0: as many as pixels), P::half_pixel.
/// @param rois [regions][4]: x and y of the first and of the last corner.
/// @param images [regions]: which image of the batch each is in.
/// @throws std::out_of_range for an image that is not in the batch, std::invalid_argument for empty images.
template <class P, class T, class I>
void roi_align(std::size_t regions, std::size_t batch, std::size_t channels, std::size_t height,
               std::size_t width, std::size_t out_height, std::size_t out_width, const T* x, const T* rois,
               const I* images, T* out) {
  if (height == 0 || width == 0) throw std::invalid_argument("RoiAlign: the images are empty");
  const T scale = T(P::spatial_scale), shift = P::half_pixel ? T(0.5) : T(0);
  for (std::size_t r = 0; r < regions; ++r) {
    const auto image = static_cast<std::int64_t>(images[r]);
    if (image < 0 || image >= static_cast<std::int64_t>(batch)) {
      throw std::out_of_range("RoiAlign: image " + std::to_string(image) + " of " + std::to_string(batch));
    }
    const T* roi = rois + 4 * r;
    const T left = roi[0] * scale - shift, top = roi[1] * scale - shift;
    T w = roi[2] * scale - shift - left, h = roi[3] * scale - shift - top;
    if (!P::half_pixel) w = std::max(w, T(1)), h = std::max(h, T(1));
    const T bin_h = h / T(out_height), bin_w = w / T(out_width);
    const detail::Samples<T> rows(bin_h, P::sampling_ratio), columns(bin_w, P::sampling_ratio);
    const T count = std::max(rows.count * columns.count, T(1));
    for (std::size_t p = 0; p < out_height; ++p) {
      for (std::size_t q = 0; q < out_width; ++q) {
        const T y0 = top + T(p) * bin_h, x0 = left + T(q) * bin_w;
        T i0, j0;
        const std::size_t touching_rows = rows.touching(y0, height, i0);
        const std::size_t touching_columns = columns.touching(x0, width, j0);
        const bool all = T(touching_rows) == rows.count && T(touching_columns) == columns.count;
        T* result = out + (r * channels * out_height + p) * out_width + q;
        for (std::size_t c = 0; c < channels; ++c) result[c * out_height * out_width] = T(0);
        for (std::size_t i = 0; i < touching_rows; ++i) {
          for (std::size_t j = 0; j < touching_columns; ++j) {
            const detail::Bilinear<T> at(y0 + (i0 + T(i) + T(0.5)) * bin_h / rows.count,
                                         x0 + (j0 + T(j) + T(0.5)) * bin_w / columns.count, height, width);
            for (std::size_t c = 0; c < channels; ++c) {
              const T* plane = x + (static_cast<std::size_t>(image) * channels + c) * height * width;
              T v[4];
              for (int k = 0; k < 4; ++k) v[k] = at.weight[k] * plane[at.position[k]];
              T& target = result[c * out_height * out_width];
              if (P::maximum) {
                const T largest = std::max(std::max(v[0], v[1]), std::max(v[2], v[3]));
                target = all && i + j == 0 ? largest : std::max(target, largest);  // the others are 0
              } else {
                target += (v[0] + v[1] + v[2] + v[3]) / count;
              }
            }
          }
        }
      }
    }
  }
}

namespace detail {
/// Corners of a box in ascending order.
struct Box {
  float y0, x0, y1, x1;

  /// @param b two opposite corners (y, x), or if centred the middle (x, y) and the size (width, height).
  Box(const float* b, bool centred) {
    if (centred) {
      x0 = b[0] - b[2] / 2, x1 = b[0] + b[2] / 2;
      y0 = b[1] - b[3] / 2, y1 = b[1] + b[3] / 2;
    } else {
      y0 = std::min(b[0], b[2]), y1 = std::max(b[0], b[2]);
      x0 = std::min(b[1], b[3]), x1 = std::max(b[1], b[3]);
    }
  }
  float area() const { return (y1 - y0) * (x1 - x0); }

  /// Whether intersection over union is above the threshold.
  bool overlaps(const Box& other, float threshold) const {
    const float h = std::min(y1, other.y1) - std::max(y0, other.y0);
    const float w = std::min(x1, other.x1) - std::max(x0, other.x0);
    if (!(h > 0) || !(w > 0)) return false;
    const float both = h * w, any = area() + other.area() - both;
    return area() > 0 && other.area() > 0 && any > 0 && both / any > threshold;
  }
};
}  // namespace detail

/// Per image and class, boxes in the order of their scores, less those that overlap a chosen one.
///
/// P::centred: format of the boxes; P::thresholded: only scores above the threshold count.
/// @param boxes [batch][n][4]; @param scores [batch][classes][n].
/// @param number how many are chosen; @param chosen [batch * classes * n][3]: image, class, box.
/// @param workspace n elements.
template <class P>
void non_max_suppression(std::size_t batch, std::size_t classes, std::size_t n, const float* boxes,
                         const float* scores, const std::int64_t* most, const float* overlap,
                         const float* threshold, std::int64_t* number, std::int64_t* chosen,
                         std::int64_t* workspace) {
  std::int64_t total = 0;
  for (std::size_t image = 0; image < batch; ++image) {
    const float* corners = boxes + image * n * 4;
    for (std::size_t c = 0; c < classes; ++c, scores += n) {
      std::int64_t* end = workspace;
      for (std::size_t i = 0; i < n; ++i) {
        if (!P::thresholded || scores[i] > *threshold) *end++ = static_cast<std::int64_t>(i);
      }
      const float* s = scores;
      std::sort(workspace, end, [s](std::int64_t a, std::int64_t b) {  // NaN last, so that this is an order
        const bool above = s[a] > s[b] || (s[a] == s[a] && s[b] != s[b]);
        const bool below = s[b] > s[a] || (s[b] == s[b] && s[a] != s[a]);
        return above || (!below && a < b);
      });
      const std::int64_t first = total;
      for (std::int64_t* i = workspace; i != end && total - first < *most; ++i) {
        const detail::Box box(corners + 4 * *i, P::centred);
        bool free = true;
        for (std::int64_t k = first; free && k < total; ++k) {
          free = !box.overlaps(detail::Box(corners + 4 * chosen[3 * k + 2], P::centred), *overlap);
        }
        if (!free) continue;
        std::int64_t* row = chosen + 3 * total++;
        row[0] = static_cast<std::int64_t>(image), row[1] = static_cast<std::int64_t>(c), row[2] = *i;
      }
    }
  }
  *number = total;
}

}  // namespace SOFIE_ISA
}  // namespace sofie
