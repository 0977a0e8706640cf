# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tests of runs without a registry."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lsst.daf.butler import Butler, MissingCollectionError
from lsst.meas.finalize.operations import CollectionSource, GraphSource, find_status
from lsst.meas.finalize.simulate import VisitSimulation

PIPELINE = "resource://lsst.meas.finalize/pipelines/FinalizeCharacterization.yaml#prepare,finalize"
CATALOG = "finalized_psf_ap_corr_detector_catalog"


def test_quantum_backed_run(
    simulated_repo: Path, simulation: VisitSimulation, tmp_path: Path, command: Callable, options: str
) -> None:
    """Run from a graph, and enter the outputs at the end.

    The other way to enter them is a part of the operators' page, which is
    run as well.
    """
    repo, graph, output = str(simulated_repo), str(tmp_path / "survey.qg"), "qbb"
    query = "instrument='SynthCam' AND detector = 2"
    inputs = ("-i", "simulated/inputs", "-o", output, "--output-run", f"{output}/run", "-d", query)
    saving = ("--qgraph-datastore-records", "-q", graph)
    command("pipetask", "qgraph", "-b", repo, *inputs, "-p", PIPELINE, "-C", options, *saving)
    (before,) = find_status([GraphSource(repo, graph)])
    assert before.missing == before.expected == {2}
    command("pipetask", "pre-exec-init-qbb", repo, graph)
    command("pipetask", "run-qbb", repo, graph)
    # The registry knows nothing yet, but the graph tells where to look.
    (finished,) = find_status([GraphSource(repo, graph)])
    assert finished.is_complete
    assert finished.done == before.expected
    with Butler.from_config(repo) as butler, pytest.raises(MissingCollectionError):
        butler.collections.get_info(output)
    command("butler", "transfer-from-graph", graph, repo, "--register-dataset-types", "--update-output-chain")
    with Butler.from_config(repo, collections=output) as butler:
        (status,) = find_status([CollectionSource(butler, output, where=query)])
        assert status.is_complete
        for detector in finished.done:
            data_id = {"instrument": "SynthCam", "visit": simulation.visit, "detector": detector}
            ref = butler.find_dataset(CATALOG, data_id)
            assert ref is not None
            # Outputs tell what they were made from.
            provenance = butler.get(ref).metadata
            ids = {str(v) for k, v in provenance.items() if "BUTLER INPUT" in k.upper() and "ID" in k.upper()}
            calexp = butler.find_dataset("calexp", data_id)
            assert calexp is not None
            assert str(calexp.id) in ids, dict(provenance)
