"""Regions of interest and overlapping boxes (``core/detection.hxx``)."""

from __future__ import annotations

from sofie_root.ir.dtype import DType
from sofie_root.program.operations.detection import NonMaxSuppression, RoiAlign
from sofie_root.targets.cxx.call import Call, CppKernel, In, Out, Scratch

from . import call


@call.register
def _(operation: RoiAlign) -> Call:
    sizes = (operation.rois.shape[0], *operation.x.shape, operation.height, operation.width)
    operands = (In("x"), In("rois"), In("batch_indices"))
    return Call(
        CppKernel(name="roi_align", header="core/detection.hxx"),
        (*sizes, *operands, Out()),
        (
            ("spatial_scale", operation.spatial_scale),
            ("sampling_ratio", operation.sampling_ratio),
            ("half_pixel", operation.half_pixel),
            ("maximum", operation.maximum),
        ),
    )


@call.register
def _(operation: NonMaxSuppression) -> Call:
    batch, classes, n = operation.scores.shape
    operands = (In("boxes"), In("scores"), *map(In, operation.LIMITS))
    results = (Out(0), Out(1), Scratch(n, DType.INT64))
    return Call(
        CppKernel(name="non_max_suppression", header="core/detection.hxx"),
        (batch, classes, n, *operands, *results),
        (("centred", operation.centred), ("thresholded", operation.thresholded)),
    )
