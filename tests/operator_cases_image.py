"""Rows of the operator table: images, signals, and axes that are computed at run time.

Like those of ``operator_cases``, they are run through the NumPy interpreter and through compiled
C++.
"""

from __future__ import annotations

from itertools import product

import numpy as np
from operator_case import Case, Table, boolean, real, whole

COORDINATES = (
    "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "asymmetric",
)  # fmt: skip
"""Those of which ONNX and ONNX Runtime agree how sizes are rounded."""

NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


def _resize(t: Table) -> None:
    x = real(2, 2, 5, 7)
    none = np.zeros(0, np.float32)
    scales = (np.array([1, 1, 2, 1.75], np.float32), np.array([1, 1, 0.55, 0.37], np.float32))
    for mode, constants, scale in product(("nearest", "linear", "cubic"), ((2,), ()), scales):
        for coordinates in COORDINATES if constants else COORDINATES[:1]:
            t.row(
                "Resize", x, None, scale, constants=constants, mode=mode,
                coordinate_transformation_mode=coordinates, tolerance=1e-4,
            )  # fmt: skip
        whole_sizes = np.array([1, 1, 2, 3], np.float32)
        t.row(
            "Resize", x, None, whole_sizes, constants=constants, mode=mode,
            coordinate_transformation_mode="align_corners", tolerance=1e-4,
        )  # fmt: skip
    for nearest, scale in product(NEAREST, scales):
        t.row("Resize", x, None, scale, constants=(2,), nearest_mode=nearest)
    for mode, scale in product(("linear", "cubic"), scales):
        t.row("Resize", x, None, scale, constants=(2,), mode=mode, antialias=1, tolerance=1e-4)
    t.row("Resize", x, None, scales[1], constants=(2,), mode="cubic", exclude_outside=1)
    for constants, mode in product(((3,), ()), ("nearest", "linear")):
        t.row("Resize", x, None, None, [2, 2, 9, 4], constants=constants, mode=mode)
        t.row("Resize", x, None, None, [9, 4], constants=constants, mode=mode, axes=[2, 3])
        for policy in ("not_larger", "not_smaller"):
            t.row(
                "Resize", x, None, None, [9, 4], constants=constants, mode=mode, axes=[2, 3],
                keep_aspect_ratio_policy=policy,
            )  # fmt: skip
        roi = np.array([0, 0, 0.25, -0.25, 1, 1, 0.75, 1.25], np.float32)
        t.row(
            "Resize", x, roi, None, [2, 2, 4, 6], constants=(1, *constants), mode=mode,
            coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=-7.0,
        )  # fmt: skip
    t.row("Resize", x, none, scales[0], constants=(1, 2), opset=11, mode="linear")
    t.row("Upsample", x, scales[0], constants=(1,), opset=9, mode="nearest")
    t.row("Resize", real(1, 1, 4, 4, dtype=np.float16), None, scales[0], constants=(2,))
    t.row("Resize", whole(1, 1, 4, 4, dtype=np.int32), None, scales[0], constants=(2,))


def _sampling(t: Table) -> None:
    modes = ("nearest", "linear", "cubic"), ("zeros", "border", "reflection"), (0, 1)
    for mode, padding, align in product(*modes):
        x, grid = real(2, 3, 5, 4), real(2, 3, 6, 2, low=-1.4, high=1.4)
        t.row(
            "GridSample", x, grid, mode=mode, padding_mode=padding, align_corners=align,
            tolerance=1e-4,
        )  # fmt: skip
        if mode != "cubic" and not align:
            volume, grid = real(1, 2, 3, 4, 5), real(1, 2, 3, 4, 3, low=-1.4, high=1.4)
            t.row(
                "GridSample", volume, grid, mode=mode, padding_mode=padding, align_corners=align,
                tolerance=1e-4,
            )  # fmt: skip
    rois = np.array([[0, 0, 5, 5], [1, 2, 7.5, 3], [-2, 4, 20, 9.5]], np.float32)
    images = np.array([1, 0, 1])
    for kind, ratio in product(("half_pixel", "output_half_pixel"), (0, 2)):
        t.row(
            "RoiAlign", real(2, 3, 9, 8), rois, images, output_height=2, output_width=3,
            sampling_ratio=ratio, spatial_scale=0.75, coordinate_transformation_mode=kind,
        )  # fmt: skip
    corners = np.sort(real(2, 12, 2, 2), axis=2).reshape(2, 12, 4)
    scores, limits = real(2, 3, 12), (np.array([5]), np.array([0.3], np.float32))
    t.row("NonMaxSuppression", corners, scores, *limits, np.array([-1], np.float32))
    t.row("NonMaxSuppression", corners, scores, *limits, constants=(2, 3))
    centres = np.abs(real(2, 12, 4))
    t.row("NonMaxSuppression", centres, scores, *limits, center_point_box=1)
    columns = real(2, 12, 20)
    t.row("Col2Im", columns, [5, 6], [2, 2], constants=(1, 2))
    t.row("Col2Im", columns, [5, 6], [2, 2], static=True)
    t.row("Col2Im", real(1, 12, 12), [8, 9], [2, 3], constants=(1, 2), strides=[2, 3], pads=[0] * 4)
    t.row(
        "DeformConv", real(2, 4, 6, 5), real(6, 2, 3, 2), real(2, 12, 3, 3, low=-1, high=1),
        real(6), real(2, 6, 3, 3), group=2, strides=[2, 2], pads=[1, 0, 1, 1], opset=19,
        static=True, tolerance=1e-4,
    )  # fmt: skip
    t.row("Det", real(4, 3, 3))
    t.row("Det", real(5, 5, dtype=np.float64))


def _signals(t: Table) -> None:
    for size, length in product((8, 9), (None, 6, 12)):
        shape = (2, size, 1), (2, size, 2)
        extra = () if length is None else (np.array(length),)
        for x, constants in product((real(*s) for s in shape), ((1,), ())):
            known = constants if extra else ()
            for inverse, onesided in ((0, 0), (1, 0), (0, 1)):
                if not onesided or x.shape[-1] == 1:
                    t.row(
                        "DFT", x, *extra, constants=known, axis=1, opset=17, tolerance=1e-4,
                        inverse=inverse, onesided=onesided, static=x.shape[-1] == 2,
                    )  # fmt: skip
    signal, window = real(2, 40, 1), real(8)
    for constants in ((1, 2), ()):
        t.row("STFT", signal, np.array(5), window, constants=constants, tolerance=1e-4)
        t.row("STFT", signal, np.array(5), window, onesided=0, constants=constants, tolerance=1e-4)


def _computed_axes(t: Table) -> None:
    x = real(3, 1, 4, 2)
    for axes, keep in product(([1], [-1, 0], [0, 1, 2, 3]), (0, 1)):
        t.row("ReduceSum", x, axes, keepdims=keep, tolerance=1e-4)
    for kind in ("Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSumExp"):
        t.row(f"Reduce{kind}", x, [-1, 0], keepdims=0, tolerance=1e-4)
    t.row("ReduceLogSum", np.abs(x), [2], tolerance=1e-4)
    t.row("ReduceMax", boolean(3, 4), [1], opset=20)
    t.row("Squeeze", x, [1])
    t.row("Unsqueeze", x, [0, -1])
    t.row("Slice", x, [1, 0], [3, 4], [0, 2])
    t.row("Slice", x, [-1, 3], [-9, 0], [0, -2], [-1, -2])
    t.row("Slice", x, [5, 0], [9, 4], [0, 2], [1, 3])
    t.row("Pad", x, [1, 0, 0, 2], None, [0, 3])
    t.row("Pad", x, [1, 0, -1, 2], np.float32(5), [-2, 3])
    t.row("Split", x, [1, 2], outputs=2)
    t.row("Split", real(2, 7), [0, 4, 3], outputs=3, axis=1)
    t.row("Split", real(7, 2), outputs=4, num_outputs=4)
    t.row("Split", real(2, 6), outputs=3, axis=1, opset=13)


def _build() -> list[Case]:
    table = Table()
    for family in (_resize, _sampling, _signals, _computed_axes):
        family(table)
    return table.cases


CASES = _build()
