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
from collections.abc import Iterator
from pathlib import Path

import pytest

from lsst.daf.butler import Butler, DatasetType
from lsst.meas.finalize.butler import SynthCam

pytest.importorskip("psycopg", reason="the extra postgres isn't installed")

N_PROCESSES = 20

# What each process does: put a detector's datasets into the common run.
PUT = """
import sys
from lsst.daf.butler import Butler

repo, detector = sys.argv[1], int(sys.argv[2])
with Butler.from_config(repo, writeable=True, run="u/common") as butler:
    sys.stdin.readline()  # all begin at once
    for name in ("finalized_a", "finalized_b"):
        butler.put({"detector": detector}, name, instrument="SynthCam", detector=detector)
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
def repo(database: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Make a repository by the documented recipe."""
    folder = tmp_path_factory.mktemp("repo")
    seed = folder / "seed.yaml"
    seed.write_text(f"registry:\n  db: {database}\n")
    path = str(folder / "repo")
    butler = str(Path(sys.executable).parent / "butler")
    subprocess.run([butler, "create", path, "--seed-config", str(seed)], check=True, capture_output=True)
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
    pipes = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    processes = [
        subprocess.Popen([sys.executable, "-c", PUT, repo, str(i)], **pipes) for i in range(N_PROCESSES)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"go\n")
        process.stdin.flush()
    errors = [process.communicate()[1].decode() for process in processes]
    assert not any(process.returncode for process in processes), errors
    with Butler.from_config(repo, collections="u/common") as butler:
        for name in ("finalized_a", "finalized_b"):
            refs = butler.query_datasets(name, "u/common", find_first=False)
            assert sorted(ref.dataId["detector"] for ref in refs) == list(range(N_PROCESSES))
            assert {butler.get(ref)["detector"] for ref in refs} == set(range(N_PROCESSES))
