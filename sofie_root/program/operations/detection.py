"""Regions of interest and overlapping boxes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sofie_root.budget import STATEMENT, spend

from ..operation import Array, Operand, Operation, Resolve


@dataclass(frozen=True, slots=True, kw_only=True)
class RoiAlign(Operation):
    """Each region of an image pooled to one size: ``[R, C, height, width]``. Source: ONNX RoiAlign-22.

    Attributes:
        x: images ``[B, C, H, W]``.
        rois: ``[R, 4]``, the corners left, top, right and bottom of each region, of the dtype of ``x``.
        batch_indices: ``[R]`` of INT64, which image each region is in.
        height: of the result.
        width: of the result.
        sampling_ratio: samples of a bin along each axis; 0 for one to a pixel.
        spatial_scale: what the corners are multiplied by.
        half_pixel: whether coordinates are those of the corners of pixels instead of their middles.
        maximum: whether a bin gives the largest of its weighted neighbours instead of the mean of its
            samples.
    """

    x: Operand
    rois: Operand
    batch_indices: Operand
    height: int
    width: int
    sampling_ratio: int
    spatial_scale: float
    half_pixel: bool
    maximum: bool

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Array]:
        """The bins, one by one."""
        x, rois, images = (operands[name] for name in ("x", "rois", "batch_indices"))
        height, width, asked = self.height, self.width, self.sampling_ratio
        out = np.zeros((len(rois), x.shape[1], height, width))
        for r, (roi, image) in enumerate(zip(rois.astype(float), images, strict=True)):
            if not 0 <= image < len(x):
                raise IndexError(f"RoiAlign: image {image} of {len(x)}")
            shift = 0.5 if self.half_pixel else 0.0
            left, top, right, bottom = roi * self.spatial_scale - shift
            h, w = bottom - top, right - left
            if not self.half_pixel:
                h, w = max(h, 1.0), max(w, 1.0)
            bins = h / height, w / width
            counts = [float(asked or (np.ceil(n) if n > 0 else 0)) for n in bins]
            for p, q in np.ndindex(height, width):
                starts = top + p * bins[0], left + q * bins[1]
                rows, columns = (
                    _samples(start, bin_, count, n, bool(asked))
                    for start, bin_, count, n in zip(starts, bins, counts, x.shape[2:], strict=True)
                )
                spend(STATEMENT * (1 + len(rows) * len(columns)))
                samples = [_bilinear(x[image], y, x_) for y in rows for x_ in columns]
                if len(samples) < counts[0] * counts[1]:  # the others are outside and count as 0
                    samples.append(np.zeros((4, x.shape[1])))
                if samples and self.maximum:
                    out[r, :, p, q] = np.max(samples, axis=(0, 1))
                elif samples:
                    out[r, :, p, q] = np.sum(samples, axis=(0, 1)) / (counts[0] * counts[1])
        return [out.astype(x.dtype)]


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


def _samples(start: float, size: float, count: float, pixels: int, given: bool) -> Array:
    """Places of a bin's samples along one axis, without those far outside of the image."""
    if not count > 0:
        return np.zeros(0)
    step = size / count
    before = 0.0 if given else np.floor((-1 - start) / step) - 2
    first = min(before, count) if before > 0 else 0.0
    number = count - first if given else min(count - first, 2.0 * pixels + 8)
    return np.asarray(start + (first + np.arange(int(number)) + 0.5) * step)


@dataclass(frozen=True, slots=True, kw_only=True)
class NonMaxSuppression(Operation):
    """Boxes in the order of their scores, without those that overlap one chosen before.

    The outputs are INT64: the number of chosen boxes, and ``[B * C * N, 3]`` with a row (image, class, box)
    for each of them first. Source: ONNX NonMaxSuppression-11.

    Attributes:
        boxes: ``[B, N, 4]`` of FLOAT.
        scores: ``[B, C, N]`` of FLOAT.
        max_output_boxes_per_class: one INT64.
        iou_threshold: one FLOAT; boxes whose intersection over union is above it overlap.
        score_threshold: one FLOAT.
        thresholded: whether only boxes with scores above ``score_threshold`` are chosen.
        centred: whether a box is its middle and size (x, y, width, height) instead of two corners
            (y, x, y, x).
    """

    boxes: Operand
    scores: Operand
    max_output_boxes_per_class: Operand
    iou_threshold: Operand
    score_threshold: Operand
    thresholded: bool
    centred: bool

    LIMITS = ("max_output_boxes_per_class", "iou_threshold", "score_threshold")

    def evaluate(self, resolve: Resolve, **operands: Any) -> list[Array]:
        """The number of boxes, and the rows."""
        boxes, scores = operands["boxes"], operands["scores"]
        most, overlap, threshold = (operands[name].reshape(()) for name in self.LIMITS)
        chosen: list[tuple[int, int, int]] = []
        for image, c in np.ndindex(*scores.shape[:2]):
            corners, s = _corners(boxes[image], self.centred), scores[image, c]
            kept: list[int] = []
            for i in np.argsort(-s, kind="stable"):
                if len(kept) >= most or (self.thresholded and s[i] <= threshold):
                    continue
                spend(STATEMENT * (1 + len(kept)))
                if not any(_overlaps(corners[i], corners[k], float(overlap)) for k in kept):
                    kept.append(int(i))
            chosen += [(image, c, i) for i in kept]
        rows = np.zeros((scores.size, 3), np.int64)
        rows[: len(chosen)] = np.array(chosen, np.int64).reshape(-1, 3)
        return [np.asarray(len(chosen), np.int64), rows]


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
