// Max, average and Lp pooling of one to three spatial dimensions, with the channels first (NCHW) or last.
//
// Part of sofie_root. SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "math.hxx"
#include "simd.hxx"

namespace sofie {
inline namespace SOFIE_ISA {

namespace detail {

// The attributes with three dimensions, missing leading ones added.
struct PoolShape {
  std::size_t kernel[3] = {1, 1, 1}, stride[3] = {1, 1, 1}, dilation[3] = {1, 1, 1};
  std::size_t pad[3] = {0, 0, 0}, pad_end[3] = {0, 0, 0};
  std::size_t in[3] = {1, 1, 1}, out[3] = {1, 1, 1};
};

template <class P>
constexpr PoolShape pool_shape(const std::size_t (&in)[P::rank], const std::size_t (&out)[P::rank]) {
  PoolShape s;
  for (std::size_t d = 0; d < P::rank; ++d) {
    const std::size_t e = d + 3 - P::rank;
    s.kernel[e] = P::kernel[d];
    s.stride[e] = P::stride[d];
    s.dilation[e] = P::dilation[d];
    s.pad[e] = P::pad_begin[d];
    s.pad_end[e] = P::pad_end[d];
    s.in[e] = in[d];
    s.out[e] = out[d];
  }
  return s;
}

// What a window covers along one dimension: `count` taps inside the input from `begin` on, and how many lie
// inside the input or its declared padding (with ceil_mode a window may reach beyond even that).
struct PoolWindow {
  std::size_t begin, count, padded;
};
constexpr std::size_t taps_before(std::size_t position, std::size_t start, std::size_t dilation,
                                  std::size_t kernel) {
  const std::size_t n = position > start ? (position - start + dilation - 1) / dilation : 0;
  return n < kernel ? n : kernel;
}
constexpr PoolWindow pool_window(const PoolShape& s, std::size_t d, std::size_t o) {
  const std::size_t start = o * s.stride[d];
  const std::size_t first = taps_before(s.pad[d], start, s.dilation[d], s.kernel[d]);
  const std::size_t last = taps_before(s.pad[d] + s.in[d], start, s.dilation[d], s.kernel[d]);
  const std::size_t padded =
      taps_before(s.pad[d] + s.in[d] + s.pad_end[d], start, s.dilation[d], s.kernel[d]);
  if (last <= first) return {0, 0, padded};
  return {start + first * s.dilation[d] - s.pad[d], last - first, padded};
}

SOFIE_INLINE inline f32v load_strided(const float* p, std::size_t stride) {
  return stride == 1 ? load(p, Full{0}) : stride == 2 ? load_every_second(p) : gather(p, stride, Full{0});
}

// The loops of all kinds of pooling. A Kind has start(), add(accumulator, value) and finish(accumulator,
// inside, padded), the last two counting taps; they serve T and, for float, f32v.
template <class P, class T, class Kind>
void pool(std::size_t planes, const PoolShape& s, const T* x, T* y, const Kind& kind) {
  constexpr std::size_t kLast = P::rank - 1;
  constexpr std::size_t kKernel = P::kernel[kLast], kStride = P::stride[kLast],
                        kDilation = P::dilation[kLast];
  constexpr std::size_t kPad = P::pad_begin[kLast], kReach = (kKernel - 1) * kDilation + 1;
  // Outputs [low, high) of a row have their whole window inside the input: these go by vectors.
  std::size_t low = (kPad + kStride - 1) / kStride;
  std::size_t high = s.in[2] + kPad >= kReach ? (s.in[2] + kPad - kReach) / kStride + 1 : 0;
  if (high > s.out[2]) high = s.out[2];
  if (high < low + kLanes || !std::is_same<T, float>::value) low = high = 0;  // by scalars then
  for (std::size_t plane = 0; plane < planes; ++plane, x += s.in[0] * s.in[1] * s.in[2]) {
    for (std::size_t o0 = 0; o0 < s.out[0]; ++o0) {
      const PoolWindow w0 = pool_window(s, 0, o0);
      for (std::size_t o1 = 0; o1 < s.out[1]; ++o1, y += s.out[2]) {
        const PoolWindow w1 = pool_window(s, 1, o1);
        const auto rows = [&](auto&& body) SOFIE_INLINE {
          for (std::size_t a = 0; a < w0.count; ++a) {
            for (std::size_t b = 0; b < w1.count; ++b) {
              body(x + ((w0.begin + a * s.dilation[0]) * s.in[1] + w1.begin + b * s.dilation[1]) * s.in[2]);
            }
          }
        };
        if constexpr (std::is_same<T, float>::value) {
          for (std::size_t o2 = low; o2 < high; o2 += kLanes) {
            // The last vector overlaps the one before: there is no harm in writing a value twice.
            if (o2 + kLanes > high) o2 = high - kLanes;
            f32v acc = broadcast(kind.start());
            rows([&](const float* row) SOFIE_INLINE {
              SOFIE_UNROLL
              for (std::size_t k = 0; k < kKernel; ++k) {
                acc = kind.add(acc, load_strided(row + (o2 * kStride + k * kDilation - kPad), kStride));
              }
            });
            store(y, Full{o2},
                  kind.finish(acc, w0.count * w1.count * kKernel, w0.padded * w1.padded * kKernel));
          }
        }
        for (std::size_t o2 = low == 0 ? high : 0; o2 < s.out[2]; o2 = o2 + 1 == low ? high : o2 + 1) {
          const PoolWindow w2 = pool_window(s, 2, o2);
          T acc = kind.start();
          rows([&](const T* row) SOFIE_INLINE {
            for (std::size_t k = 0; k < w2.count; ++k) acc = kind.add(acc, row[w2.begin + k * kDilation]);
          });
          y[o2] = kind.finish(acc, w0.count * w1.count * w2.count, w0.padded * w1.padded * w2.padded);
        }
      }
    }
  }
}

// With the channels last, for float: x[N][spatial][channels]. A vector of channels stays in a register while
// the window passes.
template <class P, class Kind>
void pool_channels_last(std::size_t batch, std::size_t channels, const PoolShape& s, const float* x, float* y,
                        const Kind& kind) {
  for (std::size_t n = 0; n < batch; ++n, x += s.in[0] * s.in[1] * s.in[2] * channels) {
    for (std::size_t o0 = 0; o0 < s.out[0]; ++o0) {
      const PoolWindow w0 = pool_window(s, 0, o0);
      for (std::size_t o1 = 0; o1 < s.out[1]; ++o1) {
        const PoolWindow w1 = pool_window(s, 1, o1);
        for (std::size_t o2 = 0; o2 < s.out[2]; ++o2, y += channels) {
          const PoolWindow w2 = pool_window(s, 2, o2);
          const std::size_t inside = w0.count * w1.count * w2.count;
          const std::size_t padded = w0.padded * w1.padded * w2.padded;
          map(channels, [&](auto j) SOFIE_INLINE {
            f32v acc = broadcast(kind.start());
            for (std::size_t a = 0; a < w0.count; ++a) {
              for (std::size_t b = 0; b < w1.count; ++b) {
                const float* row =
                    x + ((w0.begin + a * s.dilation[0]) * s.in[1] + w1.begin + b * s.dilation[1]) * s.in[2] *
                            channels;
                for (std::size_t c = 0; c < w2.count; ++c) {
                  acc = kind.add(acc, load(row + (w2.begin + c * s.dilation[2]) * channels, j));
                }
              }
            }
            store(y, j, kind.finish(acc, inside, padded));
          });
        }
      }
    }
  }
}

template <class T>
struct MaxPooling {
  static T start() {
    if constexpr (std::is_floating_point<T>::value) {
      return -infinity<T>();
    } else {
      return std::numeric_limits<T>::lowest();
    }
  }
  template <class V>
  SOFIE_INLINE V add(V acc, V x) const {
    return max(acc, x);
  }
  template <class V>
  SOFIE_INLINE V finish(V acc, std::size_t, std::size_t) const {
    return acc;
  }
};

template <class T, bool IncludePad>
struct AveragePooling {
  static constexpr T start() { return T(0); }
  template <class V>
  SOFIE_INLINE V add(V acc, V x) const {
    return acc + x;
  }
  template <class V>
  SOFIE_INLINE V finish(V acc, std::size_t inside, std::size_t padded) const {
    const std::size_t n = IncludePad ? padded : inside;
    // A window without any element: 0, not 0 / 0.
    return n == 0 ? acc : divide(acc, static_cast<T>(n));
  }
};

template <class T, int Power>
struct LpPooling {
  static constexpr T start() { return T(0); }
  template <class V>
  SOFIE_INLINE V add(V acc, V x) const {
    if constexpr (Power == 1) {
      return acc + abs(x);
    } else if constexpr (Power == 2) {
      return fma(x, x, acc);
    } else {
      return acc + pow(abs(x), static_cast<T>(Power));
    }
  }
  template <class V>
  SOFIE_INLINE V finish(V acc, std::size_t, std::size_t) const {
    if constexpr (Power == 1) {
      return acc;
    } else if constexpr (Power == 2) {
      return sqrt(acc);
    } else {
      return pow(acc, T(1) / static_cast<T>(Power));
    }
  }
};

// Max pooling that also says where each maximum was; the first one wins. y may be null.
template <class P, class T>
void max_pool_indices(std::size_t planes, const PoolShape& s, const T* x, T* y, std::int64_t* indices) {
  const std::size_t in_plane = s.in[0] * s.in[1] * s.in[2];
  for (std::size_t plane = 0; plane < planes; ++plane, x += in_plane) {
    for (std::size_t o0 = 0; o0 < s.out[0]; ++o0) {
      const PoolWindow w0 = pool_window(s, 0, o0);
      for (std::size_t o1 = 0; o1 < s.out[1]; ++o1) {
        const PoolWindow w1 = pool_window(s, 1, o1);
        for (std::size_t o2 = 0; o2 < s.out[2]; ++o2) {
          const PoolWindow w2 = pool_window(s, 2, o2);
          T best = MaxPooling<T>::start();
          std::size_t where = 0;
          bool found = false;
          for (std::size_t a = 0; a < w0.count; ++a) {
            for (std::size_t b = 0; b < w1.count; ++b) {
              for (std::size_t c = 0; c < w2.count; ++c) {
                const std::size_t i0 = w0.begin + a * s.dilation[0], i1 = w1.begin + b * s.dilation[1],
                                  i2 = w2.begin + c * s.dilation[2];
                const T v = x[(i0 * s.in[1] + i1) * s.in[2] + i2];
                if (!found || v > best || (v != v && best == best)) {
                  found = true;
                  best = v;
                  // Row major, or column major over the real dimensions (the first one fastest).
                  where = P::storage_order == 0 ? (i0 * s.in[1] + i1) * s.in[2] + i2
                                                : i0 + s.in[0] * (i1 + s.in[1] * i2);
                }
              }
            }
          }
          if (y != nullptr) *y++ = best;
          *indices++ = static_cast<std::int64_t>(plane * in_plane + where);
        }
      }
    }
  }
}

}  // namespace detail

/// Maximum over windows; padding does not take part, NaN does (it wins). `planes` is batch * channels.
///
/// P holds the attributes as static constexpr members: rank, the arrays kernel, stride, dilation, pad_begin,
/// pad_end, and storage_order (0 or 1, used with indices). The output's extents are explicit, so that they
/// carry ceil_mode.
/// @param indices null, or where each maximum was, as an index into the whole tensor [planes][spatial...].
template <class P, class T>
void max_pool(std::size_t planes, const std::size_t (&in)[P::rank], const std::size_t (&out)[P::rank],
              const T* x, T* y, std::int64_t* indices) {
  const detail::PoolShape s = detail::pool_shape<P>(in, out);
  if (indices != nullptr) {
    detail::max_pool_indices<P>(planes, s, x, y, indices);
  } else {
    detail::pool<P>(planes, s, x, y, detail::MaxPooling<T>{});
  }
}

/// Without indices: no code for them.
template <class P, class T>
void max_pool(std::size_t planes, const std::size_t (&in)[P::rank], const std::size_t (&out)[P::rank],
              const T* x, T* y, std::nullptr_t = nullptr) {
  detail::pool<P>(planes, detail::pool_shape<P>(in, out), x, y, detail::MaxPooling<T>{});
}

/// Only the indices: nobody reads the maxima.
template <class P, class T>
void max_pool(std::size_t planes, const std::size_t (&in)[P::rank], const std::size_t (&out)[P::rank],
              const T* x, std::nullptr_t, std::int64_t* indices) {
  detail::max_pool_indices<P>(planes, detail::pool_shape<P>(in, out), x, static_cast<T*>(nullptr), indices);
}

/// Mean over windows. P as for max_pool, with count_include_pad in place of storage_order: if true, the
/// divisor counts the positions inside the input and its padding, else those inside the input.
template <class P, class T>
void average_pool(std::size_t planes, const std::size_t (&in)[P::rank], const std::size_t (&out)[P::rank],
                  const T* x, T* y) {
  detail::pool<P>(planes, detail::pool_shape<P>(in, out), x, y,
                  detail::AveragePooling<T, P::count_include_pad>{});
}

/// (sum |x|^p)^(1/p) over windows. P as for max_pool, with the integer p in place of storage_order.
template <class P, class T>
void lp_pool(std::size_t planes, const std::size_t (&in)[P::rank], const std::size_t (&out)[P::rank],
             const T* x, T* y) {
  detail::pool<P>(planes, detail::pool_shape<P>(in, out), x, y,
                  detail::LpPooling<T, static_cast<int>(P::p)>{});
}

/// max_pool of x[batch][spatial...][channels] without indices.
template <class P>
void max_pool_channels_last(std::size_t batch, std::size_t channels, const std::size_t (&in)[P::rank],
                            const std::size_t (&out)[P::rank], const float* x, float* y) {
  detail::pool_channels_last<P>(batch, channels, detail::pool_shape<P>(in, out), x, y,
                                detail::MaxPooling<float>{});
}

/// average_pool of x[batch][spatial...][channels].
template <class P>
void average_pool_channels_last(std::size_t batch, std::size_t channels, const std::size_t (&in)[P::rank],
                                const std::size_t (&out)[P::rank], const float* x, float* y) {
  detail::pool_channels_last<P>(batch, channels, detail::pool_shape<P>(in, out), x, y,
                                detail::AveragePooling<float, P::count_include_pad>{});
}

}  // namespace SOFIE_ISA
}  // namespace sofie
