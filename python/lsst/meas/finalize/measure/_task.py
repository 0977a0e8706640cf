# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The task that runs measurement plugins on a catalogue's stars."""

from __future__ import annotations

__all__ = ("SingleFrameMeasurementTask",)

from collections.abc import Collection, Iterator, MutableMapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from lsst.pipe.base import Task

from .._exclusive import exclusive_pixels
from ..catalogs import Footprints, Schema, SourceCatalog
from ._batch import MeasureBatch, mask_bits
from ._config import SingleFrameMeasurementConfig
from ._errors import MeasurementFatalError
from ._plugin import CENTROID_ORDER, SingleFramePlugin, plugin_registry
from ._psf import BatchPsf, get_psf
from ._rows import StarRows
from .noise import (
    DetectedFootprints,
    NoiseReplacer,
    check_footprints,
    find_rows,
    get_footprints_from_catalog,
)

if TYPE_CHECKING:
    from lsst.images import VisitImage

_BLENDEDNESS = "base_Blendedness"


@runtime_checkable
class _BlendednessHooks(Protocol):
    """What the task calls of ``base_Blendedness`` outside the plugin loop."""

    def measure_child_pixels(self, batch: MeasureBatch) -> None:
        """Measure stars with only their own pixels present."""
        ...

    def measure_parent_pixels(self, batch: MeasureBatch) -> None:
        """Measure stars on the image with all sources."""
        ...


class SingleFrameMeasurementTask(Task):
    """Measure stars on one image, each with its neighbours replaced by noise.

    Parameters
    ----------
    schema : `Schema`
        Schema that receives slots, aliases and the plugins' fields.
    algMetadata : mapping, optional
        Receives values the plugins publish, such as aperture radii.
    **kwargs
        Passed on to `lsst.pipe.base.Task`.

    Raises
    ------
    lsst.pex.config.FieldValidationError
        Raised if the configuration is not valid.
    MeasurementFatalError
        Raised if a plugin needs a slot that is not defined.
    ValueError
        Raised if the schema has fields of a plugin already, as of one whose
        measurements are taken over from another catalogue.
    """

    ConfigClass: ClassVar[type[SingleFrameMeasurementConfig]] = SingleFrameMeasurementConfig
    _DefaultName: ClassVar[str] = "measurement"
    config: Any
    plugins: dict[str, SingleFramePlugin]
    undeblendedPlugins: dict[str, SingleFramePlugin]

    def __init__(
        self, schema: Schema, algMetadata: MutableMapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.config.validate()
        self.schema = schema
        self.algMetadata: MutableMapping[str, Any] = {} if algMetadata is None else algMetadata
        self.config.slots.set_aliases(schema)
        self.plugins = self._make_plugins(self.config.plugins, "")
        self.undeblendedPlugins = self._make_plugins(self.config.undeblended, self.config.undeblendedPrefix)
        if "base_InvalidPsf_flag" not in schema:
            schema.add_flag("base_InvalidPsf_flag", doc="Invalid PSF at this location.")

    def _make_plugins(self, choice: Any, prefix: str) -> dict[str, SingleFramePlugin]:
        """Construct the active plugins by execution order and name."""
        names = sorted(set(choice.names), key=lambda name: (plugin_registry[name].execution_order, name))
        plugins = {}
        for name in names:
            try:
                plugin = plugin_registry[name](choice[name], prefix + name, self.schema, self.algMetadata)
            except ValueError as error:
                raise ValueError(f"Plugin {prefix + name} can't add its fields: {error}") from error
            plugins[name] = plugin
        return plugins

    def _run_order(self) -> Iterator[tuple[str, SingleFramePlugin]]:
        """Yield the plugins as they are run: the centroid slot's is first."""
        first = self.config.slots.centroid
        if first in self.plugins:
            yield first, self.plugins[first]
        for name, plugin in self.plugins.items():
            if name != first:
                yield name, plugin

    def measure(self, measCat: SourceCatalog, exposure: VisitImage, **kwargs: Any) -> None:
        """Do the same as `run`."""
        self.run(measCat, exposure, **kwargs)

    def run(
        self,
        measCat: SourceCatalog,
        exposure: VisitImage,
        noiseImage: npt.NDArray[np.float32] | None = None,
        exposureId: int | None = None,
        beginOrder: float | None = None,
        endOrder: float | None = None,
        footprints: SourceCatalog | DetectedFootprints | None = None,
        psf: BatchPsf | None = None,
        color: npt.NDArray[np.float64] | None = None,
    ) -> None:
        """Run the plugins and fill their columns.

        After an exception the plugins that didn't run have set their flags.

        Parameters
        ----------
        measCat : `SourceCatalog`
            Stars to measure; its columns are written.
        exposure : `lsst.images.VisitImage`
            Image, which is as before in the end; meanwhile its pixels may
            show noise in place of sources.
        noiseImage : `numpy.ndarray`, optional
            Noise to use instead of a random one, shaped like the image.
        exposureId : `int`, optional
            Identifier to seed the noise with.
        beginOrder, endOrder : `float`, optional
            Run only plugins with an execution order in this half-open range.
            With ``endOrder`` no undeblended plugins are run.
        footprints : `SourceCatalog` or `DetectedFootprints`, optional
            Everything detected on the image; by default ``measCat`` itself.
        psf : `BatchPsf`, optional
            PSF; by default that of the exposure.
        color : `numpy.ndarray`, optional
            Colours of the stars for a chromatic PSF; by default its average
            colour is used.

        Raises
        ------
        MeasurementFatalError
            Raised if no star can be measured.
        ValueError
            Raised if the catalogue lacks fields or if footprints don't fit
            catalogue or image.
        """
        self._check_schema(measCat)
        done: set[SingleFramePlugin] = set()
        with ExitStack() as cleanup:
            cleanup.enter_context(exclusive_pixels(exposure.image.array))
            try:
                self._check_mask_planes(exposure)
                batch = self._make_batch(
                    measCat, exposure, footprints, noiseImage, exposureId, psf, color, cleanup
                )
                # Pixels and positions may be anything; what comes of it is a
                # flag.
                with np.errstate(all="ignore"):
                    self._measure(batch, beginOrder, endOrder, done)
            except Exception:
                due = {plugin for _, plugin in self._run_order() if _is_due(plugin, beginOrder, endOrder)}
                self.fail(measCat, done | (set(self.plugins.values()) - due))
                raise

    def check(
        self,
        measCat: SourceCatalog,
        exposure: VisitImage,
        footprints: SourceCatalog | DetectedFootprints | None = None,
    ) -> None:
        """Raise if no star can be measured, as far as is known without a PSF.

        Parameters
        ----------
        measCat : `SourceCatalog`
            Stars to measure.
        exposure : `lsst.images.VisitImage`
            Image they are on.
        footprints : `SourceCatalog` or `DetectedFootprints`, optional
            Everything detected on the image; by default ``measCat`` itself.

        Raises
        ------
        UnknownMaskPlaneError
            Raised if an option names a mask plane that doesn't exist.
        MeasurementFatalError
            Raised if the image lacks what a plugin needs.
        ValueError
            Raised if the footprints don't fit the image.
        """
        self._check_schema(measCat)
        if self.config.doReplaceWithNoise:
            check_footprints(_as_detected(measCat if footprints is None else footprints), exposure)
        self._check_mask_planes(exposure)
        for plugin in self._all_plugins():
            if plugin.config.doMeasure:
                plugin.check(exposure)

    def _check_mask_planes(self, exposure: VisitImage) -> None:
        for plugin in self._all_plugins():
            if plugin.config.doMeasure:
                mask_bits(exposure, plugin.mask_planes, plugin.name)

    def fail(self, measCat: SourceCatalog, done: Collection[SingleFramePlugin] = ()) -> None:
        """Set the general flags of plugins for all stars.

        Parameters
        ----------
        measCat : `SourceCatalog`
            Stars that aren't measured.
        done : collection of `SingleFramePlugin`, optional
            Plugins that have run all the same.
        """
        rows = StarRows(measCat, Footprints.empty(len(measCat)))
        for plugin in self._all_plugins():
            if plugin not in done:
                plugin.fail(rows, np.ones(len(measCat), dtype=bool))

    def _all_plugins(self) -> Iterator[SingleFramePlugin]:
        yield from self.plugins.values()
        yield from self.undeblendedPlugins.values()

    def _make_batch(
        self,
        measCat: SourceCatalog,
        exposure: VisitImage,
        footprints: SourceCatalog | DetectedFootprints | None,
        noiseImage: npt.NDArray[np.float32] | None,
        exposureId: int | None,
        psf: BatchPsf | None,
        color: npt.NDArray[np.float64] | None,
        cleanup: ExitStack,
    ) -> MeasureBatch:
        """Put together what plugins may ask about the stars, until the end of
        the clean-up.
        """
        if psf is None:
            psf = get_psf(exposure)
        detected = None
        if footprints is not None or self.config.doReplaceWithNoise or measCat.footprints is not None:
            detected = _as_detected(measCat if footprints is None else footprints)
        replacer = None
        if self.config.doReplaceWithNoise and detected is not None:
            replacer = self._make_replacer(measCat, exposure, detected, exposureId, noiseImage, cleanup)
        return MeasureBatch(
            measCat,
            exposure,
            psf=psf,
            footprints=_own_footprints(measCat, detected),
            replacer=replacer,
            color=color,
        )

    def _measure(
        self, batch: MeasureBatch, begin: float | None, end: float | None, done: set[SingleFramePlugin]
    ) -> None:
        """Run everything on stars among noise, then on the restored image."""
        self._run_plugins(batch, begin, end, done)
        blendedness: object = self.plugins.get(_BLENDEDNESS)
        if isinstance(blendedness, _BlendednessHooks):
            blendedness.measure_child_pixels(batch)
        restored = batch.restored()
        if end is None:
            for plugin in self.undeblendedPlugins.values():
                self._run_plugin(plugin, restored)
                done.add(plugin)
        if isinstance(blendedness, _BlendednessHooks):
            blendedness.measure_parent_pixels(restored)

    def _check_schema(self, catalog: SourceCatalog) -> None:
        if not catalog.schema.contains_schema(self.schema):
            missing = [f.name for f in self.schema if f.name not in catalog.schema.names]
            raise ValueError(
                f"The catalog's schema does not contain that of the measurement; missing fields: {missing}."
            )

    def _make_replacer(
        self,
        catalog: SourceCatalog,
        exposure: VisitImage,
        detected: DetectedFootprints,
        exposure_id: int | None,
        noise_image: npt.NDArray[np.float32] | None,
        cleanup: ExitStack,
    ) -> NoiseReplacer:
        """Make the noise and record in the metadata how."""
        config = self.config.noiseReplacer
        replacer = NoiseReplacer(
            config, exposure, detected, catalog["id"], exposure_id, noise_image, in_place=True
        )
        cleanup.callback(replacer.end)
        catalog.metadata["NOISE_SEED_MULTIPLIER"] = int(config.noiseSeedMultiplier)
        catalog.metadata["NOISE_SOURCE"] = str(config.noiseSource)
        catalog.metadata["NOISE_OFFSET"] = float(config.noiseOffset)
        if exposure_id is not None:
            catalog.metadata["NOISE_EXPOSURE_ID"] = int(exposure_id)
        return replacer

    def _run_plugins(
        self, batch: MeasureBatch, begin: float | None, end: float | None, done: set[SingleFramePlugin]
    ) -> None:
        for _, plugin in self._run_order():
            if not _is_due(plugin, begin, end):
                continue
            self._run_plugin(plugin, batch)
            done.add(plugin)
            if plugin.execution_order <= CENTROID_ORDER:
                batch.invalidate()

    def _run_plugin(self, plugin: SingleFramePlugin, batch: MeasureBatch) -> None:
        """Run one plugin; what it doesn't expect fails all stars."""
        if not plugin.config.doMeasure or len(batch) == 0:
            return
        from lsst.images.serialization import ArchiveReadError

        try:
            plugin.measure(batch)
        except (MeasurementFatalError, MemoryError, ArchiveReadError):
            # The last is what a damaged component of the image raises.
            raise
        except Exception:
            # As upstream: one plugin's failure must not lose the others.
            self.log.warning("Plugin %s failed on %d stars.", plugin.name, len(batch), exc_info=True)
            plugin.fail(batch, np.arange(len(batch)))


def _is_due(plugin: SingleFramePlugin, begin: float | None, end: float | None) -> bool:
    """Tell whether a plugin's execution order is in a half-open range."""
    order = plugin.execution_order
    return (begin is None or order >= begin) and (end is None or order < end)


def _as_detected(footprints: SourceCatalog | DetectedFootprints) -> DetectedFootprints:
    if isinstance(footprints, DetectedFootprints):
        return footprints
    return get_footprints_from_catalog(footprints)


def _own_footprints(catalog: SourceCatalog, detected: DetectedFootprints | None) -> Footprints | None:
    """Return the footprints of the measured rows, if there are any."""
    if catalog.footprints is not None or detected is None:
        return catalog.footprints
    return detected.footprints.take(find_rows(detected, catalog["id"], "Measured sources"))
