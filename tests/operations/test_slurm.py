# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tests with a real Slurm cluster of one node."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lsst.daf.butler import Butler
from lsst.meas.finalize.operations import CollectionSource, GraphSource, find_status

pytest.importorskip("lsst.ctrl.bps.parsl", reason="the extra parsl isn't installed")

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "sinfo", "setpriv")
MEMORY = 9000  # MB that the node claims to have
SLOW = pytest.mark.skipif(
    not os.environ.get("MEAS_FINALIZE_SLOW_TESTS"), reason="MEAS_FINALIZE_SLOW_TESTS is not set (a minute)"
)

CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdSpoolDir={folder}/spool
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ReturnToService=2
NodeName={host} CPUs=2 RealMemory={memory} State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def free_ports(number: int) -> list[int]:
    """Return ports that nothing listens at."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in sockets]
    finally:
        for listener in sockets:
            listener.close()


def make_folder(folder: Path) -> pwd.struct_passwd:
    """Write configuration and key of the cluster."""
    user = pwd.getpwnam("munge")
    for name in ("spool", "state", "munge"):
        (folder / name).mkdir()
    folder.chmod(0o711)
    (folder / "munge/key").write_bytes(os.urandom(1024))
    (folder / "munge/key").chmod(0o600)
    for path in (folder / "munge", folder / "munge/key"):
        os.chown(path, user.pw_uid, user.pw_gid)
    (folder / "munge").chmod(0o755)
    host = socket.gethostname().partition(".")[0]
    text = CONFIGURATION.format(folder=folder, host=host, ports=free_ports(2), memory=MEMORY)
    (folder / "slurm.conf").write_text(text)
    return user


@pytest.fixture
def slurm(environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """Start a cluster, and give the variables with which it is found."""
    missing = [name for name in PROGRAMS if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")]
    if missing:
        pytest.skip(f"{missing[0]} isn't installed")
    if os.geteuid() != 0:
        pytest.skip("only root can run Slurm's daemons")
    folder = Path(tempfile.mkdtemp())
    user = make_folder(folder)
    variables = environment | {"SLURM_CONF": str(folder / "slurm.conf")}
    variables["PATH"] += ":/usr/sbin"
    options = {
        "key-file": "key",
        "socket": "socket",
        "pid-file": "pid",
        "log-file": "log",
        "seed-file": "seed",
    }
    munged = ["munged", "--force", *(f"--{name}={folder}/munge/{file}" for name, file in options.items())]
    identity = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    daemons: list[subprocess.Popen] = []
    try:
        for program in ([*identity, *munged, "--foreground"], ["slurmctld", "-D"], ["slurmd", "-D"]):
            quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            daemons.append(subprocess.Popen(program, env=variables, **quiet))
            time.sleep(1)
        for _ in range(60):
            state = subprocess.run(["sinfo", "-h", "-o", "%t"], env=variables, capture_output=True, text=True)
            if state.stdout.strip() == "idle":
                break
            time.sleep(0.5)
        else:
            pytest.skip(f"Slurm doesn't start here: {state.stdout}{state.stderr}")
        yield variables
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(30)
        shutil.rmtree(folder)


def submit(
    repo: Path, options: str, folder: Path, variables: dict[str, str], detectors: str, site: str = ""
) -> str:
    """Submit detectors as a user would, and return what is printed."""
    (folder / "survey.yaml").write_text(
        "includeConfigs:\n  - resource://lsst.meas.finalize/bps/parsl_slurm.yaml\n"
        f"extraQgraphOptions: '-C {options} -c analyzeFinalizedVisit:doPlots=False'\n{site}"
    )
    where = f"instrument='SynthCam' AND detector IN ({detectors})"
    inputs = ["-b", str(repo), "-i", "simulated/inputs", "-o", folder.name, "-d", where]
    program = ["bps", "submit", "survey.yaml", *inputs]
    result = subprocess.run(program, cwd=folder, env=variables, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout + result.stderr


@SLOW
def test_submit_file_runs_to_completion(
    slurm: dict[str, str], simulated_repo: Path, tmp_path: Path, options: str
) -> None:
    """Submit by our file as it is, and find all detectors."""
    submit(simulated_repo, options, tmp_path, slurm, "0, 1")
    with Butler.from_config(str(simulated_repo)) as butler:
        where = "instrument='SynthCam' AND detector IN (0, 1)"
        (status,) = find_status([CollectionSource(butler, tmp_path.name, where=where)])
    assert status.done == {0, 1}
    assert status.merged


@SLOW
def test_request_that_no_node_can_satisfy_is_reported(
    slurm: dict[str, str], simulated_repo: Path, tmp_path: Path, options: str
) -> None:
    """Ask for a larger node than there is: the command says so, and ends."""
    site = "site:\n  slurm:\n    mem_per_node: 1000\n"
    printed = submit(simulated_repo, options, tmp_path, slurm, "0", site)
    assert "Requested node configuration is not available" in printed
    (submit_folder,) = (tmp_path / "submit" / tmp_path.name).iterdir()
    (status,) = find_status([GraphSource(str(simulated_repo), str(submit_folder))])
    assert status.missing == status.expected == {0}
