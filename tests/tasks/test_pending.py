# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.
"""Tests of aperture corrections that wait for the whole visit."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from lsst.images import Box
from lsst.meas.finalize.catalogs import Schema, SourceCatalog
from lsst.meas.finalize.focal_plane import DetectorFrame
from lsst.meas.finalize.tasks._pending import Place, apply_together

BOX = Box.factory[3:103, 5:205]
FRAME = DetectorFrame((5.0, 204.0, 3.0, 102.0), (0.1, -7.3), ((1e-20, -0.01), (0.01, 0.0)), ((0, -1), (1, 0)))


def test_place_survives_as_text() -> None:
    """What is read is what was written, to the last bit; no other version."""
    place = Place({"slot_A": "b"}, BOX, FRAME)
    assert Place.from_text(place.to_text(), "there") == place
    nowhere = Place({"slot_A": "b"})
    assert Place.from_text(nowhere.to_text(), "there") == nowhere
    text = json.dumps(json.loads(place.to_text()) | {"version": 7})
    with pytest.raises(ValueError, match="of there is of version 7, not 1"):
        Place.from_text(text, "there")


@pytest.mark.parametrize("change", [{"bbox": [1, 2]}, {"jacobian": 3}, {"offset": None}, None])
def test_damaged_text_names_the_detector(change: dict[str, Any] | None) -> None:
    """Refuse text that isn't what is written, and other JSON."""
    content = json.loads(Place({"slot_A": "b"}, BOX, FRAME).to_text())
    with pytest.raises(ValueError, match="pending_ap_corr of there isn't understood"):
        Place.from_text(json.dumps(None if change is None else content | change), "there")


class _Subtasks:
    """Measures one correction, and keeps what is applied."""

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.measured: list[int] = []
        self.applied: dict[int, Any] = {}
        self.failed: list[int] = []

    def run_visit(self, detectors: dict[int, Any]) -> dict[int, Any]:
        self.measured = list(detectors)
        if self.fails:
            raise RuntimeError("no")
        return {d: None if d == 2 else {"a": f"fitted {d}"} for d in detectors}

    def run(self, catalog: SourceCatalog, apCorrMap: dict[str, Any]) -> None:
        self.applied[len(catalog)] = apCorrMap

    def fail(self, catalog: SourceCatalog) -> None:
        self.failed.append(len(catalog))


@pytest.mark.parametrize("fails", [False, True])
def test_maps_are_completed(fails: bool, caplog: pytest.LogCaptureFixture) -> None:
    """What an image brings along is kept; failures leave nothing."""
    log: Any = logging.getLogger("lsst.test")
    subtasks = _Subtasks(fails=fails)
    stars = {
        d: (Place({}, *([] if d == 3 else [BOX, FRAME])), SourceCatalog(Schema.source_minimal(), d))
        for d in (1, 2, 3)
    }
    maps: dict[int, Any] = {1: {"a": "old", "b": "old"}, 2: {"b": "old"}, 3: None}
    apply_together(subtasks, subtasks, stars, maps, log)
    assert subtasks.measured == [1, 2]
    expected = {} if fails else {1: {"a": "fitted 1", "b": "old"}}
    assert subtasks.applied == expected
    assert maps == {1: None, 2: None, 3: None} | expected
    assert subtasks.failed == ([1, 2, 3] if fails else [2, 3])
    assert ("could not be measured for this visit" in caplog.text) == fails
