# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Formatters for the FITS files that the stack writes with lsst.afw."""

from __future__ import annotations

__all__ = ("CatalogFormatter", "ExposureFormatter")

import copy
from collections.abc import Mapping, Set
from typing import TYPE_CHECKING, Any, ClassVar

from lsst.daf.butler import DatasetProvenance, FormatterNotImplementedError, FormatterV2

from ..catalogs import ExposureCatalog, SourceCatalog
from ._delegate import ExposureDelegate

if TYPE_CHECKING:
    from lsst.images import VisitImage
    from lsst.resources import ResourcePath

_PROVENANCE_PREFIX = "LSST BUTLER"
_MAX_PROVENANCE_INPUTS = 3000  # as the stack has it: FITS headers are slow

# The codecs are imported where they are used: building a quantum graph needs
# the formatters' names only.


class ExposureFormatter(FormatterV2):
    """Read exposures that afw wrote as `lsst.images.VisitImage`.

    Notes
    -----
    Exposures can't be written: datasets that are written in a client without
    the stack have the storage class ``VisitImage``.
    """

    default_extension: ClassVar[str | None] = ".fits"
    supported_extensions: ClassVar[Set[str]] = frozenset({".fits", ".fits.gz", ".fits.fz", ".fz", ".fit"})
    can_read_from_local_file: ClassVar[bool] = True
    # What daf_butler's defaults give to a formatter of the stack's name.
    supported_write_parameters: ClassVar[Set[str] | None] = frozenset({"recipe"})

    @classmethod
    def validate_write_recipes(cls, recipes: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        """Accept any recipe, since none is used.

        Parameters
        ----------
        recipes
            Compression recipes by name.

        Returns
        -------
        recipes
            The same.
        """
        return recipes

    def read_from_local_file(self, path: str, component: str | None = None, expected_size: int = -1) -> Any:
        """Read an exposure, a part of it, or one of its components.

        Parameters
        ----------
        path
            The file.
        component
            Name of the component to return.
        expected_size
            Size of the file in bytes; unused.

        Returns
        -------
        dataset
            A `lsst.images.VisitImage`, or the component.
        """
        from ..afw import read_exposure

        descriptor = self.file_descriptor
        delegate = ExposureDelegate(descriptor.storageClass)
        return read_exposure(
            path,
            data_id=self.data_id,
            bbox=delegate.get_bbox(descriptor.parameters),
            component=component and delegate.get_attribute(component),
        )

    def write_local_file(self, in_memory_dataset: VisitImage, uri: ResourcePath) -> None:
        """Refuse to write.

        Parameters
        ----------
        in_memory_dataset
            The image.
        uri
            Where it should go.

        Raises
        ------
        FormatterNotImplementedError
            Raised always.
        """
        raise FormatterNotImplementedError(
            f"Dataset {self.dataset_ref} has storage class {self.file_descriptor.storageClass.name}, which "
            "can only be written with lsst.afw; give its dataset type the storage class VisitImage."
        )


class CatalogFormatter(FormatterV2):
    """Read and write afw's source and exposure catalogues."""

    default_extension: ClassVar[str | None] = ".fits"
    supported_extensions: ClassVar[Set[str]] = ExposureFormatter.supported_extensions
    can_read_from_local_file: ClassVar[bool] = True

    def read_from_local_file(self, path: str, component: str | None = None, expected_size: int = -1) -> Any:
        """Read a catalogue.

        Parameters
        ----------
        path
            The file.
        component
            Must be `None`: catalogues have no components.
        expected_size
            Size of the file in bytes; unused.

        Returns
        -------
        catalog
            A `~lsst.meas.finalize.catalogs.SourceCatalog` or
            `~lsst.meas.finalize.catalogs.ExposureCatalog`, whichever the
            storage class names.

        Raises
        ------
        FormatterNotImplementedError
            Raised if the storage class is of neither type.
        """
        from ..afw import read_exposure_catalog, read_source_catalog

        match self.file_descriptor.storageClass.name:
            case "SourceCatalog":
                return read_source_catalog(path)
            case "ExposureCatalog":
                return read_exposure_catalog(path)
            case name:
                raise FormatterNotImplementedError(
                    f"Dataset {self.dataset_ref} has storage class {name}, which can only be read "
                    "with lsst.afw."
                )

    def write_local_file(self, in_memory_dataset: Any, uri: ResourcePath) -> None:
        """Write a catalogue.

        Parameters
        ----------
        in_memory_dataset
            The catalogue.
        uri
            Where it goes.

        Raises
        ------
        FormatterNotImplementedError
            Raised if the dataset is of neither catalogue type.
        """
        from ..afw import write_exposure_catalog, write_source_catalog

        match in_memory_dataset:
            case SourceCatalog():
                write_source_catalog(in_memory_dataset, uri.ospath)
            case ExposureCatalog():
                write_exposure_catalog(in_memory_dataset, uri.ospath)
            case _:
                raise FormatterNotImplementedError(
                    f"Dataset {self.dataset_ref} is a {type(in_memory_dataset).__name__}, which can only be "
                    "written with lsst.afw."
                )

    def add_provenance(
        self, in_memory_dataset: Any, /, *, provenance: DatasetProvenance | None = None
    ) -> Any:
        """Put the dataset's origin into the header, as the stack does.

        Parameters
        ----------
        in_memory_dataset
            The catalogue; it isn't changed.
        provenance
            Inputs and quantum of the dataset.

        Returns
        -------
        dataset
            A shallow copy with other metadata.
        """
        if not isinstance(in_memory_dataset, SourceCatalog | ExposureCatalog):
            return in_memory_dataset
        cards = (provenance or DatasetProvenance()).to_flat_dict(
            self.dataset_ref,
            prefix=_PROVENANCE_PREFIX,
            sep=" ",
            simple_types=True,
            max_inputs=_MAX_PROVENANCE_INPUTS,
        )
        result = copy.copy(in_memory_dataset)
        result.metadata = {
            key: value
            for key, value in in_memory_dataset.metadata.items()
            if not key.startswith(_PROVENANCE_PREFIX)
        } | cards
        return result
