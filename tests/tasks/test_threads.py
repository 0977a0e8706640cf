# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from lsst.meas.finalize.tasks import FinalizeCharacterizationConfig, FinalizeCharacterizationTask
from lsst.meas.finalize.tasks._threads import map_in_order
from lsst.pex.config import FieldValidationError
from lsst.pipe.base import Struct

VISIT = 20260304011
PLUGINS = [
    "base_FPPosition",
    "base_GaussianFlux",
    "base_PsfFlux",
    "ext_shapeHSM_HsmPsfMoments",
    "ext_shapeHSM_HsmShapeRegauss",
    "ext_shapeHSM_HsmSourceMoments",
]


@dataclass
class Handle:
    """A deferred dataset that must be read in the main thread."""

    dataset: Any
    read: list[int] = field(default_factory=list)
    number: int = 0

    def get(self) -> Any:
        assert threading.current_thread() is threading.main_thread()
        self.read.append(self.number)
        if isinstance(self.dataset, Exception):
            raise self.dataset
        return self.dataset


@functools.cache
def make_task(n_threads: int) -> FinalizeCharacterizationTask:
    """Return a visit task with some of the plugins."""
    config = FinalizeCharacterizationConfig()
    config.psf_determiner["piff"].spatialOrder = 1
    config.measurement.plugins.names = PLUGINS
    config.measurement.slots.modelFlux = None
    config.n_threads = n_threads
    config.validate()
    return FinalizeCharacterizationTask(config=config)


@pytest.fixture(scope="module")
def exposures(tiny_inputs: Any) -> dict[int, Any]:
    """Return images of three detectors that differ in their noise."""
    rng = np.random.default_rng(4)
    result = {}
    for detector in range(3):
        exposure = tiny_inputs.exposure.copy()
        exposure.image.array[...] += rng.normal(0, 3, exposure.image.array.shape)
        result[detector] = exposure
    return result


def run(
    task: FinalizeCharacterizationTask, inputs: Any, exposures: dict[int, Any], srcs: dict[int, Any]
) -> tuple[Struct, list[int]]:
    """Run a task; return its results and which images were read."""
    read: list[int] = []
    result = task.run(
        VISIT,
        "r",
        inputs.isolated_star_cat_dict,
        inputs.isolated_star_source_dict,
        {d: Handle(src) for d, src in srcs.items()},
        {d: Handle(exposure, read, d) for d, exposure in exposures.items()},
    )
    return result, read


def assert_equal(first: Struct, second: Struct) -> None:
    """Compare PSFs, aperture corrections and stars, bit for bit."""
    assert first.output_table.colnames == second.output_table.colnames
    for name in first.output_table.colnames:
        a, b = (np.asarray(result.output_table[name]) for result in (first, second))
        assert a.tobytes() == b.tobytes(), name
    assert first.psf_ap_corr_cat["id"].tolist() == second.psf_ap_corr_cat["id"].tolist()
    for one, other in zip(first.psf_ap_corr_cat, second.psf_ap_corr_cat, strict=True):
        images = [record.psf.compute_kernel_image(x=90.0, y=70.0).array for record in (one, other)]
        np.testing.assert_array_equal(*images)
        assert list(one.ap_corr_map) == list(other.ap_corr_map)
        for name, correction in one.ap_corr_map.items():
            np.testing.assert_array_equal(correction.coefficients, other.ap_corr_map[name].coefficients)


def test_results_are_those_of_one_thread(tiny_inputs: Any, exposures: dict[int, Any]) -> None:
    """Give the same rows in the same order, and the last one's metadata."""
    srcs = dict.fromkeys(exposures, tiny_inputs.src)
    one, three = make_task(1), make_task(3)
    (expected, _), (result, read) = (run(task, tiny_inputs, exposures, srcs) for task in (one, three))
    assert_equal(expected, result)
    assert (
        len({fluxes.tobytes() for fluxes in np.split(result.output_table["base_PsfFlux_instFlux"], 4)}) == 4
    )
    assert read == [0, 1, 2]
    kept = [{k: v for k, v in t.metadata.to_dict().items() if not k.startswith("run")} for t in (one, three)]
    assert kept[0] == kept[1]
    assert kept[0]["numGoodStars"] > 5


def test_a_damaged_detector_is_left_out(
    tiny_inputs: Any, exposures: dict[int, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Leave out a detector whose sources repeat, and no other."""
    damaged = tiny_inputs.src.copy()
    damaged["id"][:] = damaged["id"][0]
    srcs = dict.fromkeys(exposures, tiny_inputs.src) | {1: damaged}
    expected, _ = run(make_task(1), tiny_inputs, exposures, srcs)
    caplog.clear()
    result, _ = run(make_task(2), tiny_inputs, exposures, srcs)
    assert_equal(expected, result)
    assert result.psf_ap_corr_cat["id"].tolist() == [0, 2]
    assert "Leaving out detector 1: Ids of the source catalog" in caplog.text


@pytest.mark.parametrize("n_threads", [1, 2])
def test_the_first_error_in_order_is_raised(
    tiny_inputs: Any, exposures: dict[int, Any], n_threads: int
) -> None:
    """Raise what detector 1 does, though reading 2 has failed before."""
    broken = tiny_inputs.src.copy()
    broken.schema.drop_alias("slot_CalibFlux")
    srcs = dict.fromkeys(exposures, tiny_inputs.src) | {1: broken, 2: OSError("gone")}
    with pytest.raises(KeyError, match="slot_CalibFlux"):
        run(make_task(n_threads), tiny_inputs, exposures, srcs)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_what_cannot_be_read_is_the_last(tiny_inputs: Any, exposures: dict[int, Any], n_threads: int) -> None:
    """Raise the error of a reading, and read no further image."""
    read: list[int] = []
    handles: dict[int, Any] = {d: Handle(exposure, read, d) for d, exposure in exposures.items()}
    handles[1].dataset = OSError("gone")
    with pytest.raises(OSError, match="gone"):
        make_task(n_threads).run(
            VISIT,
            "r",
            tiny_inputs.isolated_star_cat_dict,
            tiny_inputs.isolated_star_source_dict,
            dict.fromkeys(exposures, tiny_inputs.src),
            handles,
        )
    assert read == [0, 1]


@pytest.mark.parametrize("number", [0, -2])
def test_no_threads_are_refused(number: int) -> None:
    """Name the option."""
    with pytest.raises(FieldValidationError, match="n_threads"):
        FinalizeCharacterizationConfig().n_threads = number


def test_calls_overlap_and_their_results_do_not() -> None:
    """Make two calls that wait for each other; the first is done last."""
    both = threading.Barrier(2, timeout=10)

    def call(item: int) -> int:
        both.wait()
        time.sleep(0.05 if item == 0 else 0)
        return item

    assert list(map_in_order(call, range(4), 2)) == [0, 1, 2, 3]


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_few_items_are_made_ahead(n_threads: int) -> None:
    """Have no more than one item in waiting."""
    lock = threading.Lock()
    counts = {"made": 0, "done": 0, "ahead": 0}

    def items() -> Iterator[int]:
        for item in range(12):
            with lock:
                counts["made"] += 1
                counts["ahead"] = max(counts["ahead"], counts["made"] - counts["done"])
            yield item

    def call(item: int) -> int:
        # The first takes long, so that results of others pile up, not items.
        time.sleep(0.1 if item == 0 else 0.003)
        with lock:
            counts["done"] += 1
        return item

    assert list(map_in_order(call, items(), n_threads)) == list(range(12))
    assert counts["ahead"] == (n_threads + 1 if n_threads > 1 else 1)


@pytest.mark.parametrize("n_threads", [1, 4])
def test_calls_have_the_callers_error_state(n_threads: int) -> None:
    """Raise for an invalid value where the caller wants that."""

    def call(item: float) -> np.float64:
        return np.log(np.float64(item))

    with np.errstate(invalid="raise"):
        results = map_in_order(call, [1.0, -1.0, 1.0], n_threads)
        assert next(results) == 0.0
        with pytest.raises(FloatingPointError):
            next(results)


def test_waiting_calls_are_dropped_at_the_end() -> None:
    """Begin no further call when results aren't asked for any more."""
    begun: list[int] = []
    go = threading.Event()

    def call(item: int) -> int:
        begun.append(item)
        if item:
            go.wait(timeout=10)
        return item

    def interrupt(results: Any, release: Callable[[], None]) -> None:
        with closing(results):
            assert next(results) == 0
            release()

    interrupt(map_in_order(call, range(100), 2), go.set)
    assert len(begun) <= 4


def test_detectors_that_share_an_image(tiny_inputs: Any) -> None:
    """Measure one image several times at once, and leave it as it was."""
    exposure = tiny_inputs.exposure.copy()
    before = exposure.image.array.copy()
    # A part of it shares its memory.
    shared = {0: exposure, 1: exposure, 2: exposure[exposure.bbox]}
    srcs = dict.fromkeys(shared, tiny_inputs.src)
    expected, _ = run(make_task(1), tiny_inputs, shared, srcs)
    result, _ = run(make_task(3), tiny_inputs, shared, srcs)
    np.testing.assert_array_equal(exposure.image.array, before)
    assert_equal(expected, result)
