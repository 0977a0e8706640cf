# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

from pathlib import Path

import pytest

from lsst.pipe.base import LabelSpecifier, Pipeline
from lsst.pipe.base.testUtils import lintConnections
from lsst.pipe.tasks.finalizeCharacterization import (
    ConsolidateFinalizeCharacterizationDetectorConnections,
    FinalizeCharacterizationConfig,
    FinalizeCharacterizationConnections,
    FinalizeCharacterizationDetectorConfig,
    FinalizeCharacterizationDetectorConnections,
)

PIPELINES = Path(__file__).parents[2] / "pipelines"


@pytest.mark.parametrize(
    "connections",
    [
        FinalizeCharacterizationConnections,
        FinalizeCharacterizationDetectorConnections,
        ConsolidateFinalizeCharacterizationDetectorConnections,
    ],
)
def test_connections_are_sane(connections: type) -> None:
    """Check dimensions and templates as pipe_base does."""
    lintConnections(connections)


@pytest.mark.parametrize(
    "config_class", [FinalizeCharacterizationConfig, FinalizeCharacterizationDetectorConfig]
)
def test_standard_stars_are_read_only_if_used(config_class: type) -> None:
    """Remove the FGCM input unless colours or photometry need it."""
    config = config_class()
    names = {c.name for c in config.connections.ConnectionsClass(config=config).allConnections.values()}
    assert "fgcm_standard_star" not in names
    config.do_add_fgcm_photometry = True
    assert "fgcm_standard_star" in config.connections.ConnectionsClass(config=config).inputs
    config = config_class()
    config.psf_determiner["piff"].useColor = True
    assert "fgcm_standard_star" in config.connections.ConnectionsClass(config=config).inputs


def test_obsolete_schema_connection_is_tolerated() -> None:
    """Accept an override of ``src_schema`` and read nothing for it."""
    config = FinalizeCharacterizationDetectorConfig()
    config.connections.src_schema = "single_visit_star_schema"
    connections = config.connections.ConnectionsClass(config=config)
    assert not connections.initInputs
    assert "src_schema" not in connections.allConnections


@pytest.mark.parametrize(
    ("config_class", "expected"),
    [
        (
            FinalizeCharacterizationDetectorConfig,
            {
                "src": "src",
                "calexp": "calexp",
                "isolated_star_cats": "isolated_star_presource_associations",
                "isolated_star_sources": "isolated_star_presources",
                "finalized_psf_ap_corr_detector_cat": "finalized_psf_ap_corr_detector_catalog",
                "finalized_src_detector_table": "finalized_src_detector_table",
            },
        ),
        (
            FinalizeCharacterizationConfig,
            {
                "srcs": "src",
                "calexps": "calexp",
                "isolated_star_cats": "isolated_star_presource_associations",
                "isolated_star_sources": "isolated_star_presources",
                "finalized_psf_ap_corr_cat": "finalized_psf_ap_corr_catalog",
                "finalized_src_table": "finalized_src_table",
            },
        ),
    ],
)
def test_dataset_names_are_upstreams(config_class: type, expected: dict[str, str]) -> None:
    """Name the datasets as upstream."""
    config = config_class()
    connections = config.connections.ConnectionsClass(config=config)
    assert {attribute: c.name for attribute, c in connections.allConnections.items()} == expected


@pytest.mark.parametrize(
    "path", sorted(PIPELINES.rglob("*.yaml")), ids=lambda p: str(p.relative_to(PIPELINES))
)
def test_pipelines_load(path: Path) -> None:
    """Build the graph of every pipeline and of its subsets."""
    pipeline = Pipeline.from_uri(str(path))
    graph = pipeline.to_graph()
    assert graph.tasks
    for subset in pipeline.subsets:
        assert pipeline.subsetFromLabels(LabelSpecifier({subset})).to_graph().tasks


def test_drp_names_connect() -> None:
    """Chain the refit pipeline through drp_pipe's dataset names."""
    graph = Pipeline.from_uri(str(PIPELINES / "RefitPsfModel.yaml")).to_graph()
    types = set(graph.dataset_types)
    assert {"refit_psf_star", "refit_psf_models", "single_visit_star_footprints"} <= types


@pytest.mark.parametrize(
    ("camera", "orders"), [("LSSTCam", {"u": 2, "i": 4}), ("LSSTComCam", {"u": 2, "i": 3}), ("HSC", {})]
)
def test_instrument_pipelines_override_orders(camera: str, orders: dict[str, int]) -> None:
    """Apply the overrides of a camera (spec 01 §7.4)."""
    graph = Pipeline.from_uri(str(PIPELINES / camera / "FinalizeCharacterization.yaml")).to_graph()
    piff = graph.tasks["finalizeCharacterizationDetector"].config.psf_determiner["piff"]
    assert {b: o for b, o in piff.spatialOrderPerBand.items() if b in "ui"} == orders
