# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Run the shell blocks of the pages for users and operators.

A block below a comment ``.. not run by the tests: reason`` is left out;
``tests/packaging/test_docs_commands.py`` parses it all the same.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lsst.daf.butler import Butler
from lsst.meas.finalize.operations import CollectionSource, find_status

ROOT = Path(__file__).parents[2]
DOC = ROOT / "doc/lsst.meas.finalize"
PAGES = ("getting-started", "butler", "operating")
BLOCK = re.compile(
    r"^(?:( *)\.\. not run by the tests: (?P<reason>.+)\n\n)?"
    r"( *)\.\. code-block:: (?P<language>sh|python)\n\n(?P<text>(?:\3 +.*\n|\n)+)",
    re.MULTILINE,
)
CATALOG = "finalized_psf_ap_corr_detector_catalog"
MERGED = ("finalized_psf_ap_corr_catalog", "finalized_src_table")
MERGE_TASKS = ("consolidateFinalizeCharacterization", "analyzeFinalizedVisit", "analyzeFinalizedSurvey")
# What makes the simulation small, and the measurement quick.
SMALL = ("--size", "420", "--stars", "40", "--galaxies", "5", "--detectors", "2")


@dataclass
class Block:
    """A block of code on a page."""

    page: str
    language: str
    reason: str | None
    text: str

    @property
    def commands(self) -> list[tuple[dict[str, str], list[str]]]:
        """Variables and words of each command."""
        # As in a shell, and not in shlex, a comment begins after a space.
        lines = re.sub(r"(?m)(?:^|\s)#.*$", "", self.text.replace("\\\n", " ")).splitlines()
        result = []
        for words in filter(None, map(shlex.split, lines)):
            n = next(i for i, word in enumerate(words) if not re.fullmatch(r"[A-Z_]+=.*", word))
            result.append((dict(word.split("=", 1) for word in words[:n]), words[n:]))
        return result


def blocks(page: str) -> Iterator[Block]:
    """Return the blocks of a page."""
    for match in BLOCK.finditer((DOC / f"{page}.rst").read_text()):
        yield Block(page, match["language"], match["reason"], match["text"])


BLOCKS = [block for page in PAGES for block in blocks(page)]
SHELL = [block for block in BLOCKS if block.language == "sh" and not block.reason]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder in which all commands are given, as by a user."""
    return tmp_path_factory.mktemp("documented")


def adapt(words: list[str], options: str, folder: Path) -> list[str]:
    """Make a command one of small data, in one process."""
    extra: tuple[str, ...] = ()
    if words[1] == "simulate-visit":
        extra = SMALL
    elif words[:2] == ["pipetask", "run"]:
        # Listing all installed packages takes longer than a small quantum.
        extra = ("--no-versions",) if "#" in " ".join(words) else ("--no-versions", *quick(options))
    elif words[:2] == ["pipetask", "qgraph"]:
        extra = quick(options)
    if "-j" in words:
        words[words.index("-j") + 1] = "1"
    replaced = {"PATH_OF_THE_EXPORT": str(ROOT / "tests/data/tiny/export")}
    if {"create", "import"} & set(words):
        replaced["REPO"] = "IMPORTED"
    return [replaced.get(word, word) for word in words] + list(extra)


def quick(options: str) -> tuple[str, ...]:
    """Return options with few measurements, and without plots."""
    tasks = ("analyzeFinalizedVisit", "analyzeFinalizedSurvey")
    return "-C", options, *(word for task in tasks for word in ("-c", f"{task}:doPlots=False"))


def lose_a_detector(repo: str, command: Callable) -> None:
    """Remove outputs of detector 1 and of the visit, as if they had failed."""
    lost = [CATALOG, *MERGED]
    for task in ("finalizeCharacterizationDetector", *MERGE_TASKS):
        lost += [f"{task}_metadata", f"{task}_log"]
    with Butler.from_config(repo, writeable=True, collections="u/me/finalized") as butler:
        refs = [ref for name in lost for ref in butler.query_datasets(name, find_first=False)]
        refs = [ref for ref in refs if ref.dataId.get("detector", 1) == 1]
        butler.pruneDatasets(refs, disassociate=True, unstore=True, purge=True)
    command("butler", "finalize-status", repo, "u/me/finalized", code=1)


@pytest.mark.parametrize(
    "number", range(len(SHELL)), ids=lambda i: f"{SHELL[i].page}-{SHELL[i].commands[0][1][1]}"
)
def test_block_is_run(
    number: int, folder: Path, command: Callable, options: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run a block after those above it; all its commands succeed."""
    monkeypatch.chdir(folder)
    for variables, words in SHELL[number].commands:
        if "--extend-run" in words:
            lose_a_detector("REPO", command)
        words = adapt(words, options, folder)
        if variables:
            program = [str(Path(sys.executable).parent / words[0]), *words[1:]]
            result = subprocess.run(program, env=os.environ | variables, capture_output=True, text=True)
            assert result.returncode == 0, result.stderr
        else:
            command(*words)


def test_outputs_are_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Find what the commands made, with what it was made from."""
    repo = str(folder / "REPO")
    with Butler.from_config(repo, collections=["u/me/qbb", "u/me/consolidated"]) as butler:
        data_id = {"instrument": "SynthCam", "visit": 20260304001}
        (status,) = find_status([CollectionSource(butler, "u/me/finalized")])
        assert status.is_complete
        # What was lost is made again, and nothing a second time.
        repeated = butler.query_datasets(CATALOG, "u/me/finalized", find_first=False)
        assert sorted(ref.dataId["detector"] for ref in repeated) == [0, 1]
        assert len({ref.run for ref in repeated}) == 1
        catalog = butler.get("finalized_psf_ap_corr_catalog", data_id, collections="u/me/consolidated")
        assert catalog["id"].tolist() == [0, 1]
        for detector in (0, 1):
            ref = butler.find_dataset(CATALOG, data_id, detector=detector)
            assert ref is not None
            # Outputs tell what they were made from.
            provenance = butler.get(ref).metadata
            ids = {str(v) for k, v in provenance.items() if "BUTLER INPUT" in k.upper() and "ID" in k.upper()}
            calexp = butler.find_dataset("calexp", data_id, detector=detector, collections="simulated/inputs")
            assert str(calexp.id) in ids, dict(provenance)
    with Butler.from_config(str(folder / "IMPORTED")) as butler:
        assert len(butler.query_datasets("calexp", "golden/inputs")) == 2


@pytest.mark.parametrize("page", PAGES)
def test_python_is_run(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Execute the Python blocks of a page, on what the commands made."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(DOC / "examples"))
    with Butler.from_config("REPO") as butler:
        namespace: dict[str, Any] = {"butler": butler}
        for block in blocks(page):
            if block.language == "python":
                lines = [line.strip() if line[:3].strip() else line[3:] for line in block.text.splitlines()]
                text = "\n".join(lines).replace("u/someone/run", "u/me/finalized")
                exec(compile(text, f"{page}.rst", "exec"), namespace)
    if page == "getting-started":
        assert namespace["record"].id == 0
        assert len(namespace["images"]) == 2
        assert 0.9 < namespace["factor"][0] < 1.1
        assert 0 < len(namespace["reserved"]) < len(namespace["stars"])


def test_reasons_name_what_exists() -> None:
    """Find the files that are said to run the other blocks."""
    reasons = [block.reason for block in BLOCKS if block.reason]
    text = "".join((DOC / f"{page}.rst").read_text() for page in PAGES)
    assert len(reasons) == text.count("not run by the tests:")
    for name in re.findall(r"(\S+\.py)\b", " ".join(reasons)):
        assert (ROOT / name).is_file(), name
