"""Operators of object detection: RoiAlign and NonMaxSuppression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sofie_root.errors import ShapeError
from sofie_root.ir import DType, Op, Refuse, TensorType, operator, require_equal, runtime_size
from sofie_root.program.builder import Builder, Tensor
from sofie_root.program.operations import detection

from .checks import FLOATS, require_dtype, require_one_dtype


@operator("RoiAlign", since=22)
@dataclass(frozen=True, slots=True)
class RoiAlign(Op):
    """Regions of an image pooled to one size. Source: ONNX RoiAlign-22."""

    coordinate_transformation_mode: str = "half_pixel"
    mode: str = "avg"
    output_height: int = 1
    output_width: int = 1
    sampling_ratio: int = 0
    spatial_scale: float = 1.0

    def infer(self, x: TensorType, rois: TensorType, images: TensorType) -> TensorType:
        """``[regions, C, output_height, output_width]``."""
        require_one_dtype((x, rois))
        require_dtype(x, FLOATS)
        require_dtype(images, frozenset({DType.INT64}))
        if x.rank != 4 or rois.rank != 2 or images.rank != 1:
            raise ShapeError(
                f"X, rois, batch_indices have {x.rank}, {rois.rank}, {images.rank} axes"
            )
        if self.mode not in ("avg", "max"):
            raise ShapeError(f"mode {self.mode!r} does not exist")
        if self.coordinate_transformation_mode not in ("half_pixel", "output_half_pixel"):
            raise ShapeError(f"coordinates by {self.coordinate_transformation_mode!r} do not exist")
        if min(self.output_height, self.output_width) < 1 or self.sampling_ratio < 0:
            raise ShapeError("the output must have a positive size")
        require_equal(rois.shape[1], 4, "a region has four numbers")
        regions = require_equal(rois.shape[0], images.shape[0], "one image index per region")
        return TensorType(x.dtype, (regions, x.shape[1], self.output_height, self.output_width))

    def lower(self, b: Builder, x: Tensor, rois: Tensor, images: Tensor) -> Tensor:
        """One operation."""
        wide = b.cast(x, x.dtype.compute)
        (y,) = b.operation(
            detection.RoiAlign,
            (TensorType(wide.dtype, b.outputs[0].shape),),
            x=wide,
            rois=b.cast(rois, wide.dtype),
            batch_indices=images,
            height=self.output_height,
            width=self.output_width,
            sampling_ratio=self.sampling_ratio,
            spatial_scale=self.spatial_scale,
            half_pixel=self.coordinate_transformation_mode == "half_pixel",
            maximum=self.mode == "max",
        )
        return b.cast(y, x.dtype)


@operator("NonMaxSuppression", since=11)
@dataclass(frozen=True, slots=True)
class NonMaxSuppression(Op):
    """Boxes by score, less those that overlap a better one. Source: ONNX NonMaxSuppression-11."""

    center_point_box: int = 0

    def infer(
        self,
        boxes: TensorType,
        scores: TensorType,
        most: TensorType | None = None,
        overlap: TensorType | None = None,
        threshold: TensorType | None = None,
    ) -> TensorType:
        """``[chosen, 3]``."""
        if boxes.rank != 3 or scores.rank != 3:
            raise ShapeError(
                f"boxes and scores must have 3 axes, not {boxes.rank} and {scores.rank}"
            )
        require_equal(boxes.shape[0], scores.shape[0], "boxes and scores of as many images")
        require_equal(boxes.shape[1], scores.shape[2], "a score for each box")
        require_equal(boxes.shape[2], 4, "a box has four numbers")
        for limit in (most, overlap, threshold):
            if limit is not None and limit.numel != 1:
                raise Refuse("limits must have one element")
        return TensorType(DType.INT64, (runtime_size(0), 3))

    def lower(
        self,
        b: Builder,
        boxes: Tensor,
        scores: Tensor,
        most: Tensor | None = None,
        overlap: Tensor | None = None,
        threshold: Tensor | None = None,
    ) -> Tensor:
        """An operation, then a loop that copies what was chosen."""
        size = b.outputs[0].shape[0]
        nothing = b.constant(np.zeros(1, np.float32))
        number, rows = b.operation(
            detection.NonMaxSuppression,
            (TensorType(DType.INT64, ()), TensorType(DType.INT64, (scores.type.numel, 3))),
            boxes=boxes,
            scores=scores,
            max_output_boxes_per_class=b.constant(np.zeros(1, np.int64)) if most is None else most,
            iou_threshold=nothing if overlap is None else overlap,
            score_threshold=nothing if threshold is None else threshold,
            thresholded=threshold is not None,
            centred=bool(self.center_point_box),
        )
        b.bind(size, number[()])
        return b.loop((size, 3), lambda i, j: rows[i, j])
