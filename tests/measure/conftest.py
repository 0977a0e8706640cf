# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Synthetic exposures, a PSF in closed form, and a runner of plugins."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import lsst.images
from lsst.meas.finalize.catalogs import Footprints, Schema, SourceCatalog
from lsst.meas.finalize.measure._task import SingleFrameMeasurementTask
from lsst.meas.finalize.measure.moments import adaptive_moments
from lsst.meas.finalize.measure.pixels import lanczos_weights

PLANES = ("BAD", "SAT", "INTRP", "CR", "EDGE", "DETECTED")
_SLOTS = ("centroid", "shape", "psfShape", "apFlux", "modelFlux", "psfFlux", "gaussianFlux", "calibFlux")


class MoffatPsf:
    """Batch PSF that samples an elliptical Moffat profile."""

    def __init__(self, size: int = 25, scale: float = 8.5) -> None:
        self.size = size
        self.scale = scale

    def _draw(self, dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
        radius2 = 1.03 * dx**2 - 0.08 * dx * dy + 0.98 * dy**2
        images = (1.0 + radius2 / self.scale) ** -3.2
        return images / images.sum(axis=(1, 2), keepdims=True)

    def draw_kernel_images(self, x: np.ndarray, y: np.ndarray, color: Any = None) -> np.ndarray:
        index = np.arange(self.size) - self.size // 2
        image = self._draw(index[None, None, :] - 0.03, index[None, :, None] + 0.02)
        return np.repeat(image, len(x), axis=0)

    def draw_star_images(
        self, x: np.ndarray, y: np.ndarray, color: Any = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        x, y = (np.nan_to_num(v, posinf=0.0, neginf=0.0) for v in (x, y))
        x0 = np.floor(x + 0.5).astype(np.int64) - self.size // 2
        y0 = np.floor(y + 0.5).astype(np.int64) - self.size // 2
        index = np.arange(self.size)
        dx = x0[:, None, None] + index[None, None, :] - x[:, None, None]
        dy = y0[:, None, None] + index[None, :, None] - y[:, None, None]
        return self._draw(dx, dy), x0, y0

    def compute_shapes(self, x: np.ndarray, y: np.ndarray, color: Any = None) -> np.ndarray:
        return np.tile([1.85, 1.9, 0.07], (len(x), 1))

    def compute_aperture_fluxes(
        self, radius: float, x: np.ndarray, y: np.ndarray, color: Any = None
    ) -> np.ndarray:
        return np.ones(len(x))


def _make_exposure(
    image: np.ndarray,
    *,
    variance: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    origin: tuple[int, int] = (0, 0),
    metadata: dict[str, Any] | None = None,
) -> Any:
    """Make what plugins need of a VisitImage; mask bits as in PLANES."""
    yx0 = origin[1], origin[0]
    variance = np.ones(image.shape) if variance is None else variance
    mask = np.zeros(image.shape, dtype=np.uint8) if mask is None else mask
    schema = lsst.images.MaskSchema([lsst.images.MaskPlane(p, p) for p in PLANES])
    science = lsst.images.Image(np.ascontiguousarray(image, dtype=np.float32), yx0=yx0)
    return SimpleNamespace(
        image=science,
        variance=lsst.images.Image(np.ascontiguousarray(variance, dtype=np.float32), yx0=yx0),
        mask=lsst.images.Mask(mask.astype(np.uint8)[:, :, None], schema=schema, yx0=yx0),
        bbox=science.bbox,
        metadata=metadata or {},
        psf=None,
    )


def _rectangles(boxes: np.ndarray) -> Footprints:
    """Make footprints that fill inclusive boxes; empty if max < min."""
    return Footprints.from_spans(
        [
            [(y, x_min, x_max) for y in range(y_min, y_max + 1)]
            for x_min, y_min, x_max, y_max in boxes.tolist()
        ]
    )


def _run_plugins(
    names: list[str],
    exposure: Any,
    x: np.ndarray,
    y: np.ndarray,
    boxes: np.ndarray,
    *,
    psf: Any = None,
    configure: Callable[[Any], None] | None = None,
    columns: dict[str, np.ndarray] | None = None,
    shape: str | None = None,
    aliases: dict[str, str] | None = None,
    replace: bool = False,
) -> SourceCatalog:
    """Measure stars without a task around it; return the catalogue."""
    config = SingleFrameMeasurementTask.ConfigClass()
    config.plugins.names = names
    config.doReplaceWithNoise = replace
    for slot in _SLOTS:
        setattr(config.slots, slot, None)
    config.slots.shape = shape
    if configure is not None:
        configure(config)
    schema = Schema.source_minimal()
    values = {"slotted_x": np.asarray(x, float), "slotted_y": np.asarray(y, float), **(columns or {})}
    for name, value in values.items():
        schema.add_field(name, {"b": "Flag", "i": "I", "f": "D"}[np.asarray(value).dtype.kind])
    for alias, target in {"slot_Centroid": "slotted", **(aliases or {})}.items():
        schema.set_alias(alias, target)
    task = SingleFrameMeasurementTask(schema, config=config)
    catalog = SourceCatalog(schema, len(x), footprints=_rectangles(np.asarray(boxes)))
    catalog["id"] = np.arange(1, len(x) + 1)
    for name, value in values.items():
        catalog[name] = value
    task.run(catalog, exposure, psf=psf)
    return catalog


STAR_BOX = np.array([[20, 20, 40, 40]])
"""Of the star of spec 03 §9."""


def shift_image(image: np.ndarray, dx: float, dy: float) -> np.ndarray:
    """Shift by fractions of a pixel; there is nothing beyond the image."""
    padded = np.pad(image, 10)
    for axis, taps, centre in zip((1, 0), *lanczos_weights(np.float32([dx, dy])), strict=True):
        padded = sum(tap * np.roll(padded, centre - k, axis) for k, tap in enumerate(taps))
    return padded[10:-10, 10:-10]


class KernelPsf:
    """The pixel-sampled Gaussian K of spec 03 §9, the same everywhere."""

    def __init__(self) -> None:
        y, x = np.mgrid[-12:13, -12:13]
        image = np.exp(-0.5 * (x**2 + y**2) / 2.15**2)
        self.image = image / image.sum()

    def draw_kernel_images(self, x: np.ndarray, y: np.ndarray, color: Any = None) -> np.ndarray:
        return np.repeat(self.image[None], len(x), axis=0)

    def draw_star_images(self, x: np.ndarray, y: np.ndarray, color: Any = None) -> Any:
        x, y = np.nan_to_num(x), np.nan_to_num(y)
        ix, iy = np.floor(x + 0.5), np.floor(y + 0.5)
        images = np.array([shift_image(self.image, *shift) for shift in zip(x - ix, y - iy, strict=True)])
        return images, ix.astype(np.int64) - 12, iy.astype(np.int64) - 12

    def compute_shapes(self, x: np.ndarray, y: np.ndarray, color: Any = None) -> np.ndarray:
        moments = adaptive_moments(self.draw_kernel_images(x, y), 12, 12)
        return np.stack([moments.xx, moments.yy, moments.xy], axis=1)

    def compute_aperture_fluxes(self, radius: float, x: np.ndarray, y: np.ndarray, color: Any = None) -> Any:
        raise NotImplementedError


def reference_star(x: float = 30.3, y: float = 29.6, size: int = 61) -> np.ndarray:
    """Return the reference image of spec 03 §9."""
    rows, columns = np.mgrid[:size, :size]
    exponent = -0.5 * ((columns - x) ** 2 / 4 + (rows - y) ** 2 / 5.29)
    return (10000 * np.exp(exponent) / (2 * np.pi * 2 * 2.3)).astype(np.float32)


def with_peaks(catalog_boxes: np.ndarray, x: list[float], y: list[float]) -> Any:
    """Return rectangular footprints with a peak each."""
    from lsst.meas.finalize.catalogs import Footprints

    spans = [[(r, b[0], b[2]) for r in range(b[1], b[3] + 1)] for b in catalog_boxes.tolist()]
    light = Footprints.from_spans(spans)
    return Footprints(
        light.span_offsets, light.span_y, light.span_x0, light.span_x1,
        peak_offsets=np.arange(len(x) + 1), peaks={"f_x": np.array(x), "f_y": np.array(y)},
    )  # fmt: skip


def flags_set(catalog: SourceCatalog, prefix: str, row: int = 0) -> set[str]:
    """Return the flags that are set, without the prefix."""
    return {
        f.name.removeprefix(prefix + "_")
        for f in catalog.schema
        if f.type == "Flag" and f.name.startswith(prefix) and catalog[f.name][row]
    }


@pytest.fixture
def make_exposure() -> Callable[..., Any]:
    """Return a function that makes small exposures."""
    return _make_exposure


@pytest.fixture
def moffat_psf() -> MoffatPsf:
    """Return a PSF like the one of spec 04 §12."""
    return MoffatPsf()


@pytest.fixture
def run_plugins() -> Callable[..., SourceCatalog]:
    """Return a function that runs plugins on stars."""
    return _run_plugins
