# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tests with a real PostgreSQL server."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lsst.daf.butler import Butler, DatasetType
from lsst.meas.finalize.butler import SynthCam

pytest.importorskip("psycopg", reason="the extra postgres isn't installed")

N_PROCESSES = 20

# Processes that share nothing but what they have imported, which takes longer
# than what they do; each puts a detector's datasets into the common run.
PUT = """
import os, sys
from lsst.daf.butler import Butler
import lsst.meas.finalize.butler

def put(detector):
    with Butler.from_config(sys.argv[1], writeable=True, run="u/common") as butler:
        os.write(ready[1], b"1")
        os.read(go[0], 1)  # all begin at once
        for name in ("finalized_a", "finalized_b"):
            butler.put({"detector": detector}, name, instrument="SynthCam", detector=detector)

with Butler.from_config(sys.argv[1]) as butler:
    butler.collections.query("*")  # imports the rest
number = int(sys.argv[2])
ready, go = os.pipe(), os.pipe()
children = []
for detector in range(number):
    if not (child := os.fork()):
        put(detector)
        os._exit(0)  # an exception ends the process with another code
    children.append(child)
for _ in range(number):
    os.read(ready[0], 1)
os.write(go[1], b"1" * number)
sys.exit(any([os.waitpid(child, 0)[1] for child in children]))
"""


def find_server() -> Path:
    """Return the folder of the server's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    initdb = shutil.which("initdb")
    if not found and not initdb:
        pytest.skip("PostgreSQL's server (initdb) isn't installed")
    return found[-1].parent if found else Path(initdb or "").parent


def free_port() -> int:
    """Return a port that nothing listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """Start a server with an empty database, and give its URL."""
    programs = find_server()
    # The server refuses to run as root, and others can't see pytest's folders.
    user: dict[str, int] = {}
    folder = Path(tempfile.mkdtemp())
    if os.geteuid() == 0:
        try:
            entry = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("there is no user postgres, and root can't run the server")
        user = {"user": entry.pw_uid, "group": entry.pw_gid}
        os.chown(folder, entry.pw_uid, entry.pw_gid)
    data, port = folder / "data", free_port()
    run = {"check": True, "capture_output": True, "cwd": folder, **user}
    subprocess.run([programs / "initdb", "-D", data, "-U", "butler", "-A", "trust"], **run)
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=100"
    start = [programs / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start"]
    subprocess.run(start, check=True, cwd=folder, stdout=subprocess.DEVNULL, **user)
    try:
        create = ["createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "butler", "repo"]
        subprocess.run([programs / create[0], *create[1:]], **run)
        url = f"postgresql://butler@127.0.0.1:{port}/repo"
        # Registries need this extension for ranges of times.
        sql = [programs / "psql", url, "-c", "CREATE EXTENSION btree_gist"]
        subprocess.run(sql, **run)
        yield url
    finally:
        subprocess.run([programs / "pg_ctl", "-D", data, "-m", "immediate", "stop"], **run)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def repo(database: str, tmp_path_factory: pytest.TempPathFactory, command: Callable) -> str:
    """Make a repository by the documented recipe."""
    folder = tmp_path_factory.mktemp("repo")
    seed = folder / "seed.yaml"
    seed.write_text(f"registry:\n  db: {database}\n")
    path = str(folder / "repo")
    command("butler", "create", path, "--seed-config", str(seed))
    return path


def test_many_processes_share_a_run(repo: str) -> None:
    """Let processes put distinct detectors into one run at a time."""
    with Butler.from_config(repo, writeable=True) as butler:
        SynthCam().register_detectors(butler.registry, N_PROCESSES)
        butler.collections.register("u/common")
        for name in ("finalized_a", "finalized_b"):
            dimensions, universe = ("instrument", "detector"), butler.dimensions
            dataset_type = DatasetType(name, dimensions, "StructuredDataDict", universe=universe)
            butler.registry.registerDatasetType(dataset_type)
    program = [sys.executable, "-c", PUT, repo, str(N_PROCESSES)]
    result = subprocess.run(program, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    with Butler.from_config(repo, collections="u/common") as butler:
        for name in ("finalized_a", "finalized_b"):
            refs = butler.query_datasets(name, "u/common", find_first=False)
            assert sorted(ref.dataId["detector"] for ref in refs) == list(range(N_PROCESSES))
            assert {butler.get(ref)["detector"] for ref in refs} == set(range(N_PROCESSES))
