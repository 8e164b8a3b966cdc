"""Regions of interest and overlapping boxes (``core/detection.hxx``)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from sofie_root.budget import STATEMENT, spend
from sofie_root.ir.dim import Dim, product
from sofie_root.ir.dtype import DType
from sofie_root.ir.types import TensorType
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.program import In, Kernel, KernelSpec, Out, Scratch

Array = npt.NDArray[Any]
Resolve = Callable[[Dim], int]
Traits = tuple[tuple[str, Any], ...]


def roi_align(
    b: Builder, x: Tensor, rois: Tensor, images: Tensor, size: tuple[int, int], traits: Traits
) -> Tensor:
    """Each region of ``x[B, C, H, W]`` pooled to ``size``: ``[R, C, *size]``.

    Args:
        b: the builder.
        x: the images, in a dtype that is computed in.
        rois: ``[R, 4]``, corners.
        images: ``[R]``, which image each region is in.
        size: height and width of the result.
        traits: spatial_scale, sampling_ratio, half_pixel and maximum.
    """
    regions = rois.shape[0]
    out = TensorType(x.dtype, (regions, x.shape[1], *size))
    args = (regions, *x.shape, *size, In(0), In(1), In(2), Out(0))
    (y,) = b.kernel(ROI_ALIGN, args, (x, rois, images), (out,), traits)
    return y


def _bilinear(plane: Array, y: float, x: float) -> Array:
    """The four weighted neighbours ``[4, C]`` of a place in ``plane[C, H, W]``."""
    _, height, width = plane.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return np.zeros((4, len(plane)), plane.dtype)
    y, x = max(y, 0.0), max(x, 0.0)
    top, left = min(int(y), height - 1), min(int(x), width - 1)
    y, x = min(y, height - 1), min(x, width - 1)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, along = y - top, x - left
    corners = (
        ((1 - down) * (1 - along), top, left),
        ((1 - down) * along, top, right),
        (down * (1 - along), bottom, left),
        (down * along, bottom, right),
    )
    return np.stack([w * plane[:, p, q] for w, p, q in corners])


def _touching(start: float, size: float, count: float, pixels: int, given: bool) -> Array:
    """Places of a bin's samples along one axis, without those far outside of the image."""
    if not count > 0:
        return np.zeros(0)
    step = size / count
    before = 0.0 if given else np.floor((-1 - start) / step) - 2
    first = min(before, count) if before > 0 else 0.0
    number = count - first if given else min(count - first, 2.0 * pixels + 8)
    return np.asarray(start + (first + np.arange(int(number)) + 0.5) * step)


def _roi_reference(kernel: Kernel, inputs: list[Array], resolve: Resolve) -> list[Array]:
    x, rois, images = inputs
    t = dict(kernel.traits)
    height, width = (resolve(d) for d in kernel.args[5:7])  # type: ignore[arg-type]
    out = np.zeros((len(rois), x.shape[1], height, width))
    for r, (roi, image) in enumerate(zip(rois.astype(float), images, strict=True)):
        if not 0 <= image < len(x):
            raise IndexError(f"RoiAlign: image {image} of {len(x)}")
        left, top, right, bottom = roi * t["spatial_scale"] - (0.5 if t["half_pixel"] else 0.0)
        h, w = bottom - top, right - left
        if not t["half_pixel"]:
            h, w = max(h, 1.0), max(w, 1.0)
        bins = h / height, w / width
        asked = t["sampling_ratio"]
        counts = [float(asked or (np.ceil(n) if n > 0 else 0)) for n in bins]
        for p, q in np.ndindex(height, width):
            starts = top + p * bins[0], left + q * bins[1]
            rows, columns = (
                _touching(start, bin_, count, n, bool(asked))
                for start, bin_, count, n in zip(starts, bins, counts, x.shape[2:], strict=True)
            )
            spend(STATEMENT * (1 + len(rows) * len(columns)))
            samples = [_bilinear(x[image], y, x_) for y in rows for x_ in columns]
            if len(samples) < counts[0] * counts[1]:  # the others are outside and count as 0
                samples.append(np.zeros((4, x.shape[1])))
            if samples and t["maximum"]:
                out[r, :, p, q] = np.max(samples, axis=(0, 1))
            elif samples:
                out[r, :, p, q] = np.sum(samples, axis=(0, 1)) / (counts[0] * counts[1])
    return [out.astype(x.dtype)]


ROI_ALIGN = KernelSpec("roi_align", "core/detection.hxx", _roi_reference)


def non_max_suppression(
    b: Builder,
    boxes: Tensor,
    scores: Tensor,
    limits: tuple[Tensor, Tensor, Tensor],
    centred: bool,
    thresholded: bool,
    size: Dim,
) -> Tensor:
    """The chosen boxes as rows (image, class, box); binds their number to ``size``.

    Args:
        b: the builder.
        boxes: ``[B, N, 4]`` floats.
        scores: ``[B, C, N]`` floats.
        limits: most boxes per class (INT64), overlap and score threshold (floats), one element each.
        centred: whether a box is its middle and its size instead of two corners.
        thresholded: whether the score threshold counts.
        size: a size symbol.

    Returns:
        ``[B * C * N, 3]`` of INT64, of which the first ``size`` rows count.
    """
    batch, classes, n = scores.shape
    number, rows = b.kernel(
        NON_MAX_SUPPRESSION,
        (batch, classes, n, *(In(k) for k in range(5)), Out(0), Out(1), Scratch(n, DType.INT64)),
        (boxes, scores, *limits),
        (TensorType(DType.INT64, ()), TensorType(DType.INT64, (product(scores.shape), 3))),
        (("centred", centred), ("thresholded", thresholded)),
    )
    b.bind(size, number[()])
    return rows


def _corners(boxes: Array, centred: bool) -> Array:
    """Boxes ``[N, 4]`` as y0, x0, y1, x1 in ascending order."""
    if centred:
        x, y, w, h = boxes.T
        return np.stack([y - h / 2, x - w / 2, y + h / 2, x + w / 2], axis=1)
    first, last = boxes[:, :2], boxes[:, 2:]
    return np.concatenate([np.minimum(first, last), np.maximum(first, last)], axis=1)


def _overlaps(a: Array, b: Array, threshold: float) -> bool:
    h, w = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    areas = [(c[2] - c[0]) * (c[3] - c[1]) for c in (a, b)]
    if h <= 0 or w <= 0 or min(areas) <= 0:
        return False
    return bool(h * w / (sum(areas) - h * w) > threshold)


def _suppression_reference(kernel: Kernel, inputs: list[Array], resolve: Resolve) -> list[Array]:
    boxes, scores = inputs[:2]
    most, overlap, threshold = (i.reshape(()) for i in inputs[2:])
    chosen: list[tuple[int, int, int]] = []
    for image, c in np.ndindex(*scores.shape[:2]):
        corners, s = _corners(boxes[image], kernel.trait("centred")), scores[image, c]
        kept: list[int] = []
        for i in np.argsort(-s, kind="stable"):
            if len(kept) >= most or (kernel.trait("thresholded") and s[i] <= threshold):
                continue
            spend(STATEMENT * (1 + len(kept)))
            if not any(_overlaps(corners[i], corners[k], float(overlap)) for k in kept):
                kept.append(int(i))
        chosen += [(image, c, i) for i in kept]
    rows = np.zeros((scores.size, 3), np.int64)
    rows[: len(chosen)] = np.array(chosen, np.int64).reshape(-1, 3)
    return [np.asarray(len(chosen), np.int64), rows]


NON_MAX_SUPPRESSION = KernelSpec(
    "non_max_suppression", "core/detection.hxx", _suppression_reference
)
