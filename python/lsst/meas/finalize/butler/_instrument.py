# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""The instrument of simulated visits."""

from __future__ import annotations

__all__ = ("SynthCam",)

from collections.abc import Sequence
from typing import NoReturn

from lsst.daf.butler import DataId, Formatter, FormatterV2
from lsst.daf.butler.registry import Registry
from lsst.pipe.base import Instrument
from lsst.resources import ResourcePathExpression
from lsst.utils.introspection import get_full_type_name

_BANDS = "ugrizy"
_N_DETECTORS = 10
_LARGEST_ID = 10**12


class SynthCam(Instrument):
    """A camera of ten or more detectors with one physical filter per band.

    Notes
    -----
    Detectors are named after pair and place in it, ``S00``, ``S01``, ``S10``
    … ``S41`` …; filters after their band, ``u_sim`` … ``y_sim``. A simulated
    visit may use any number of the detectors; `register_detectors` adds more
    than ten.
    """

    configPaths: Sequence[ResourcePathExpression] = ("resource://lsst.meas.finalize.butler/config/SynthCam",)
    policyName = "SynthCam"

    @classmethod
    def getName(cls) -> str:
        """Return the instrument's name in data IDs.

        Returns
        -------
        name
            ``SynthCam``.
        """
        return "SynthCam"

    def register(self, registry: Registry, *, update: bool = False) -> None:
        """Insert instrument, detectors and filters into a registry.

        Parameters
        ----------
        registry
            Registry of the repository.
        update
            Whether records that differ from these are replaced.

        Raises
        ------
        lsst.daf.butler.registry.ConflictingDefinitionError
            Raised if a record differs and ``update`` is `False`; nothing is
            inserted then.
        """
        name = self.getName()
        with registry.transaction():
            self.register_detectors(registry, _N_DETECTORS, update=update)
            for band in _BANDS:
                record = {"instrument": name, "name": f"{band}_sim", "band": band}
                registry.syncDimensionData("physical_filter", record, update=update)

    def register_detectors(self, registry: Registry, number: int, *, update: bool = False) -> None:
        """Insert the instrument and its first detectors into a registry.

        Parameters
        ----------
        registry
            Registry of the repository.
        number
            Number of detectors; if there are more already, they stay.
        update
            Whether records that differ from these are replaced.

        Raises
        ------
        lsst.daf.butler.registry.ConflictingDefinitionError
            Raised if a record differs and ``update`` is `False`; nothing is
            inserted then.
        """
        name = self.getName()
        known = list(registry.queryDimensionRecords("instrument", instrument=name))
        largest = max([number, *(record.detector_max for record in known)])
        record = {
            "name": name,
            "detector_max": largest,
            "visit_max": _LARGEST_ID,
            "exposure_max": _LARGEST_ID,
            "visit_system": 0,
            "class_name": get_full_type_name(type(self)),
        }
        with registry.transaction():
            # Only the number of detectors may grow without being told to.
            grows = bool(known) and known[0].toDict() == record | {"detector_max": known[0].detector_max}
            registry.syncDimensionData("instrument", record, update=update or grows)
            for detector in range(number):
                record = {
                    "instrument": name,
                    "id": detector,
                    "full_name": "S{}{}".format(*divmod(detector, 2)),
                    "purpose": "SCIENCE",
                }
                registry.syncDimensionData("detector", record, update=update)

    def getCamera(self) -> NoReturn:
        """Refuse: what tasks of the stack may ask for doesn't exist.

        Raises
        ------
        NotImplementedError
            Raised always.
        """
        raise NotImplementedError(
            f"{self.getName()} has no camera geometry; its images have their detectors attached."
        )

    def getRawFormatter(self, dataId: DataId) -> type[Formatter | FormatterV2]:
        """Refuse: simulated visits start as calibrated images.

        Parameters
        ----------
        dataId
            Data ID of a raw image.

        Raises
        ------
        NotImplementedError
            Raised always.
        """
        raise NotImplementedError(
            f"{self.getName()} has no raw images, so there is no formatter for {dataId}."
        )
