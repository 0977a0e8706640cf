# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tests of a repository imported from the stack's export."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import astropy.io.fits
import astropy.table
import numpy as np
import pytest

from lsst.daf.butler import (
    Butler,
    DatasetRef,
    DatasetType,
    FileDataset,
    FormatterNotImplementedError,
    StorageClassFactory,
)
from lsst.daf.butler.cli.butler import cli
from lsst.daf.butler.cli.utils import LogCliRunner, clickResultMsg
from lsst.images import Box, VisitImage
from lsst.images.psfs import PointSpreadFunction
from lsst.meas.finalize.afw import read_exposure_catalog
from lsst.meas.finalize.butler import ExposureDelegate
from lsst.meas.finalize.catalogs import ExposureCatalog, SourceCatalog
from lsst.pipe.base import (
    InMemoryDatasetHandle,
    PipelineTask,
    PipelineTaskConfig,
    PipelineTaskConnections,
    connectionTypes,
)
from lsst.pipe.base.pipeline_graph import PipelineGraph

INPUTS = "golden/inputs"
VISIT = 20260304011
DATA_ID = {"instrument": "SynthCam", "visit": VISIT, "detector": 0}
INSTRUMENT = "lsst.meas.finalize.butler.SynthCam"


def run_butler(*args: str) -> None:
    """Run a subcommand of ``butler``."""
    result = LogCliRunner().invoke(cli, args)
    assert result.exit_code == 0, clickResultMsg(result)


@pytest.fixture(scope="module")
def repo(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository made by commands from the untouched export."""
    path = tmp_path_factory.mktemp("butler") / "repo"
    run_butler("create", str(path))
    run_butler("register-instrument", str(path), INSTRUMENT)
    run_butler("import", str(path), str(tiny / "export"), "--transfer", "copy")
    return path


@pytest.fixture(scope="module")
def inputs(repo: Path) -> Butler:
    """Return a read-only butler on the imported datasets."""
    return Butler.from_config(str(repo), collections=INPUTS)


@pytest.fixture
def output(repo: Path, tmp_path: Path) -> Butler:
    """Return a butler on a copy of the repository, to write to."""
    copied = tmp_path / "copy"
    shutil.copytree(repo, copied)
    return Butler.from_config(str(copied), collections=["u/test", INPUTS], run="u/test")


def register(butler: Butler, name: str, dimensions: list[str], storage_class: str) -> None:
    """Register a dataset type."""
    dataset_type = DatasetType(name, dimensions, storage_class, universe=butler.dimensions)
    butler.registry.registerDatasetType(dataset_type)


def record_path(butler: Butler, name: str, **data_id: Any) -> Path:
    """Return the file of a dataset."""
    return Path(butler.getURI(name, DATA_ID | data_id).ospath)


def test_every_dataset_can_be_read(inputs: Butler) -> None:
    """Get each dataset of the export as the type that belongs to it."""
    types = {"ExposureF": VisitImage, "SourceCatalog": SourceCatalog, "ArrowAstropy": astropy.table.Table}
    counts: dict[str, int] = {}
    for name in inputs.collections.get_info(INPUTS, include_summary=True).dataset_types or ():
        for ref in inputs.query_datasets(name):
            assert isinstance(inputs.get(ref), types[ref.datasetType.storageClass_name])
            counts[name] = counts.get(name, 0) + 1
    assert counts == dict.fromkeys(
        [
            "calexp",
            "fgcm_standard_star",
            "isolated_star_presource_associations",
            "isolated_star_presources",
            "src",
        ],
        2,
    )


def test_exposure_content(inputs: Butler, tiny: Path) -> None:
    """Get pixels, and what goes with them, through a deferred handle."""
    handle = inputs.getDeferred("calexp", DATA_ID)
    image = handle.get()
    assert image.image.array.shape == (520, 560)
    assert image.band == "r"
    assert sorted(image.aperture_corrections)
    path = record_path(inputs, "calexp")
    np.testing.assert_array_equal(image.image.array, astropy.io.fits.getdata(path, "IMAGE"))


@pytest.mark.parametrize(
    ("component", "attribute"),
    [
        ("apCorrMap", "aperture_corrections"),
        ("bbox", "bbox"),
        ("obs_info", "obs_info"),
        ("visitInfo", "obs_info"),
        ("wcs", "sky_projection"),
    ],
)
def test_exposure_components(inputs: Butler, component: str, attribute: str) -> None:
    """Get a component by the name that afw, or lsst.images, has for it."""
    value = inputs.get(f"calexp.{component}", DATA_ID)
    expected = getattr(inputs.get("calexp", DATA_ID), attribute)
    if attribute in ("bbox", "obs_info"):
        assert value == expected
    assert type(value) is type(expected)


def test_psf_component_draws_the_psf(inputs: Butler) -> None:
    """Get a PSF that works without its image."""
    psf = inputs.get("calexp.psf", DATA_ID)
    assert isinstance(psf, PointSpreadFunction)
    expected = inputs.get("calexp", DATA_ID).psf.compute_kernel_image(x=100.0, y=200.0)
    np.testing.assert_array_equal(psf.compute_kernel_image(x=100.0, y=200.0).array, expected.array)


def test_plane_component(inputs: Butler) -> None:
    """Get one plane."""
    mask = inputs.get("calexp.mask", DATA_ID)
    np.testing.assert_array_equal(mask.array, inputs.get("calexp", DATA_ID).mask.array)


def test_bbox_parameter(inputs: Butler) -> None:
    """Read a part of an exposure, and of one of its planes."""
    whole = inputs.get("calexp", DATA_ID)
    y, x = whole.bbox.y.start, whole.bbox.x.start
    box = Box.factory[y + 10 : y + 30, x + 20 : x + 50]
    part = inputs.get("calexp", DATA_ID, parameters={"bbox": box})
    assert part.bbox == box
    np.testing.assert_array_equal(part.image.array, whole.image.array[10:30, 20:50])
    plane = inputs.get("calexp.variance", DATA_ID, parameters={"bbox": box})
    np.testing.assert_array_equal(plane.array, whole.variance.array[10:30, 20:50])


@pytest.mark.parametrize(
    ("parameters", "error", "match"),
    [
        (
            {"bbox": Box.factory[0:10, 5000:5010]},
            ValueError,
            r"5000:5010\] isn't inside the image box",
        ),
        ({"bbox": (0, 10)}, ValueError, "must be a lsst.images.Box, not tuple"),
        ({"amp": 1}, KeyError, "'amp' not understood by StorageClass ExposureF"),
    ],
)
def test_bad_parameters(
    inputs: Butler, parameters: dict[str, Any], error: type[Exception], match: str
) -> None:
    """Name the parameter that can't be used."""
    with pytest.raises(error, match=match):
        inputs.get("calexp", DATA_ID, parameters=parameters)


def test_sources_survive_a_round_trip(output: Butler) -> None:
    """Put and get a source catalogue with its footprints."""
    src = output.get("src", DATA_ID)
    register(output, "src2", ["visit", "detector"], "SourceCatalog")
    ref = output.put(src, "src2", DATA_ID)
    back = output.get(ref)
    assert back.schema.names == src.schema.names
    for name in src.schema.names:
        np.testing.assert_array_equal(back[name], src[name])
    np.testing.assert_array_equal(back.footprints.area, src.footprints.area)
    np.testing.assert_array_equal(back.footprints.heavy_image, src.footprints.heavy_image)


def test_exposure_catalog_survives_a_round_trip(output: Butler, tiny: Path) -> None:
    """Put and get a catalogue of PSFs and aperture corrections."""
    catalog = read_exposure_catalog(tiny / "expected/default/finalized_psf_ap_corr_catalog.fits")
    name = "finalized_psf_ap_corr_catalog"
    register(output, name, ["visit"], "ExposureCatalog")
    ref = output.put(catalog, name, instrument="SynthCam", visit=VISIT)
    back = output.get(ref)
    assert isinstance(back, ExposureCatalog)
    np.testing.assert_array_equal(back["id"], [0, 1])
    for record in back:
        before = catalog.find(record.id)
        np.testing.assert_array_equal(
            record.psf.compute_kernel_image(x=100.0, y=200.0).array,
            before.psf.compute_kernel_image(x=100.0, y=200.0).array,
        )
        assert set(record.ap_corr_map) == set(before.ap_corr_map)


def test_written_catalogs_are_the_stacks(output: Butler) -> None:
    """Record the stack's formatter and the dataset's origin."""
    src = output.get("src", DATA_ID)
    metadata = dict(src.metadata)
    register(output, "src2", ["visit", "detector"], "SourceCatalog")
    ref = output.put(src, "src2", DATA_ID)
    assert src.metadata == metadata
    (info,) = output._datastore.export_records([ref]).values()
    formatters = {
        record.formatter
        for records in info.records.values()
        for table in records.values()
        for record in table
    }
    assert formatters == {"lsst.obs.base.formatters.fitsGeneric.FitsGenericFormatter"}
    header = astropy.io.fits.getheader(record_path(output, "src2"), 1)
    assert header["LSST BUTLER ID"] == str(ref.id)
    assert header["LSST BUTLER DATASETTYPE"] == "src2"
    assert header["LSST BUTLER DATAID DETECTOR"] == 0


def test_native_image_is_read_as_exposure(output: Butler) -> None:
    """Write an image in its own format and read it as an exposure."""
    image = output.get("calexp", DATA_ID)
    register(output, "native", ["visit", "detector"], "VisitImage")
    ref = output.put(image, "native", DATA_ID)
    back = output.get(ref, storageClass="ExposureF")
    np.testing.assert_array_equal(back.image.array, image.image.array)
    assert back.bbox == image.bbox
    np.testing.assert_array_equal(
        back.psf.compute_kernel_image(x=100.0, y=200.0).array,
        image.psf.compute_kernel_image(x=100.0, y=200.0).array,
    )


class NeedsExposureConnections(PipelineTaskConnections, dimensions=("visit", "detector")):
    """Connections that ask for an afw exposure."""

    calexp = connectionTypes.Input(
        doc="Image.", name="calexp", storageClass="ExposureF", dimensions=("visit", "detector")
    )
    result = connectionTypes.Output(
        doc="Result.", name="result", storageClass="StructuredDataDict", dimensions=("visit", "detector")
    )


class NeedsExposureConfig(PipelineTaskConfig, pipelineConnections=NeedsExposureConnections):
    """Configuration of the task below."""


class NeedsExposureTask(PipelineTask):
    """A task with these connections."""

    ConfigClass = NeedsExposureConfig
    _DefaultName = "needsExposure"


def test_native_dataset_type_fits_an_exposure_connection(butler: Butler) -> None:
    """Resolve a pipeline whose repository keeps native images."""
    register(butler, "calexp", ["visit", "detector"], "VisitImage")
    graph = PipelineGraph()
    graph.add_task("needsExposure", NeedsExposureTask)
    graph.resolve(butler.registry)
    assert graph.dataset_types["calexp"].storage_class_name == "VisitImage"
    assert graph.tasks["needsExposure"].inputs["calexp"].storage_class_name == "ExposureF"


def test_exposures_are_not_written(output: Butler) -> None:
    """Say which storage class to use for an image."""
    image = output.get("calexp", DATA_ID)
    register(output, "afw", ["visit", "detector"], "ExposureF")
    with pytest.raises(RuntimeError, match="Failed to serialize dataset afw") as caught:
        output.put(image, "afw", DATA_ID)
    assert isinstance(caught.value.__cause__, FormatterNotImplementedError)
    assert "give its dataset type the storage class VisitImage" in str(caught.value.__cause__)
    assert output.find_dataset("afw", DATA_ID, collections="u/test") is None


def test_other_storage_classes_need_the_stack(output: Butler) -> None:
    """Say that a dataset of another type can only be read with afw."""
    register(output, "peaks", ["visit", "detector"], "PeakCatalog")
    ref = DatasetRef(output.get_dataset_type("peaks"), output.registry.expandDataId(DATA_ID), run="u/test")
    formatter = "lsst.obs.base.formatters.fitsGeneric.FitsGenericFormatter"
    dataset = FileDataset(str(record_path(output, "src")), ref, formatter=formatter)
    output.ingest(dataset, transfer="copy")
    with pytest.raises(ValueError, match="storage class PeakCatalog, which can only be read with lsst.afw"):
        output.get(ref)


def test_in_memory_exposures_have_components(inputs: Butler) -> None:
    """Ask a handle on an image in memory for components and parts."""
    image = inputs.get("calexp", DATA_ID)
    handle = InMemoryDatasetHandle(image, storageClass="ExposureF")
    assert handle.get(component="wcs") is image.sky_projection
    assert handle.get(component="psf") is image.psf
    box = Box.factory[5:15, 20:40]
    assert handle.get(parameters={"bbox": box}).bbox == box
    with pytest.raises(ValueError, match="is not inside the image's"):
        handle.get(parameters={"bbox": Box.factory[0:10, 5000:5010]})
    with pytest.raises(AttributeError, match="ExposureF has no component 'coaddInputs'"):
        ExposureDelegate(StorageClassFactory().getStorageClass("ExposureF")).getComponent(
            image, "coaddInputs"
        )


@pytest.mark.parametrize("name", ["calexp", "src"])
@pytest.mark.parametrize("damage", ["truncated", "overwritten", "empty"])
def test_damaged_file(output: Butler, name: str, damage: str) -> None:
    """Get one error that names the dataset for a damaged file."""
    path = record_path(output, name)
    content = path.read_bytes()
    size = len(content)
    if damage == "truncated":
        path.write_bytes(content[: size // 2])
    elif damage == "overwritten":
        path.write_bytes(content[: size // 4] + b"\xff" * (size - size // 4))
    else:
        path.write_bytes(bytes(size))
    with pytest.raises(Exception, match=path.name):
        output.get(name, DATA_ID)
