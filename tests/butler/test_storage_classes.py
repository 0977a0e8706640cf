# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tests of the storage classes of the overlay."""

from __future__ import annotations

import logging

import pytest

from lsst.daf.butler import Butler, DatasetType, StorageClassFactory
from lsst.images import VisitImage
from lsst.meas.finalize.butler import ExposureDelegate
from lsst.meas.finalize.catalogs import ExposureCatalog, SourceCatalog


@pytest.mark.parametrize(
    ("name", "pytype"),
    [("ExposureF", VisitImage), ("SourceCatalog", SourceCatalog), ("ExposureCatalog", ExposureCatalog)],
)
def test_python_types_exist(name: str, pytype: type) -> None:
    """Give the stack's storage classes types that need no stack."""
    assert StorageClassFactory().getStorageClass(name).pytype is pytype


@pytest.mark.parametrize(("here", "there"), [("ExposureF", "VisitImage"), ("VisitImage", "ExposureF")])
def test_native_images_serve_as_exposures(here: str, there: str, caplog: pytest.LogCaptureFixture) -> None:
    """Accept either storage class where the other is asked for."""
    factory = StorageClassFactory()
    with caplog.at_level(logging.WARNING):
        assert factory.getStorageClass(here).can_convert(factory.getStorageClass(there))
    assert not caplog.records


def test_every_component_has_an_importable_type() -> None:
    """Offer no component whose type only the stack has."""
    storage_class = StorageClassFactory().getStorageClass("ExposureF")
    for name, component in storage_class.allComponents().items():
        assert isinstance(component.pytype, type), name


def test_exposures_have_our_delegate() -> None:
    """Find the delegate that knows components and parameters."""
    storage_class = StorageClassFactory().getStorageClass("ExposureF")
    assert storage_class.delegateClass is ExposureDelegate
    assert storage_class.knownParameters() == {"bbox"}


def test_component_dataset_types(butler: Butler) -> None:
    """Name components of a dataset type in afw's and in our way."""
    dimensions = butler.dimensions.conform(["visit", "detector"])
    calexp = DatasetType("calexp", dimensions, "ExposureF")
    assert calexp.makeComponentDatasetType("wcs").storageClass.name == "SkyProjection"
    assert calexp.makeComponentDatasetType("sky_projection").storageClass.name == "SkyProjection"
    with pytest.raises(KeyError, match="coaddInputs"):
        calexp.makeComponentDatasetType("coaddInputs")
