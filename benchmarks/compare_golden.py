# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Compare our results with what the real stack made of the same files.

A golden set's butler export goes untouched into a new SQLite butler,
``pipetask run`` makes our results, and a table tells how they compare.  The
exit code is 1 if they fall short.

Usage: python benchmarks/compare_golden.py PATH_OF_A_GOLDEN_SET [--variant V]
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import astropy.table
import numpy as np

from lsst.daf.butler import Butler
from lsst.meas.finalize.afw import read_exposure_catalog
from lsst.meas.finalize.psf import as_batch_psf
from lsst.pipe.tasks.finalizeCharacterization import FinalizeCharacterizationDetectorConfig

DETECTOR_LABEL = "finalizeCharacterizationDetector"
VISIT_LABEL = "finalizeCharacterization"

# Fraction of rows that must agree; tolerance, relative and in errors.
STRICT = (0.995, 1e-6, 1e-3)
RELAXED = (0.99, 1e-4, 1e-2)
# Columns that may meet RELAXED where they don't meet STRICT, and why.
EXCEPTIONS: dict[str, str] = {
    r"ext_shapeHSM_HsmShapeRegauss_.*": "ill-conditioned for stars: proportional to 1/resolution",
    r"ext_photometryKron_KronFlux_.*": "the stack sums sinc products in float32",
    r"ext_convolved_ConvolvedFlux_.*": "the stack sums sinc products in float32",
    r"ext_gaap_GaapFlux_.*": "the stack solves for matching kernels in another order",
}
# Offsets of centres, which are about 0: their tolerance is relative to the
# largest one in the column.
OFFSETS = re.compile(
    r"modelfit_DoubleShapeletPsfApprox_[01]_[xy]|(modelfit_CModel|slot_ModelFlux)_(initial|exp|dev)_fixed_[01]"
)
# No two float32 evaluations of CModel agree star by star (spec 05 §9), so
# their distribution is compared: flags, and fluxes relative to the stack's.
CMODEL = re.compile(r"(apcorr_)?(modelfit_CModel|slot_ModelFlux)(_.*)?")
# These of its columns don't depend on where its fits end.
CMODEL_EXACT = re.compile(
    r"(modelfit_CModel|slot_ModelFlux)_(region_initial_ellipse_(xx|yy|xy)|(initial|exp|dev)_fixed_[01])"
)
CMODEL_FLUX = re.compile(r"(modelfit_CModel(?:_initial|_exp|_dev)?)_instFlux(Err|_inner)?")
CMODEL_CAUSE = "depends on float32 rounding star by star (spec 05 §9)"
CMODEL_FLAGS, CMODEL_MEDIAN, CMODEL_SCATTER = 0.98, 2e-4, 3e-3
# Its maps are fitted to few stars, single ones of which differ by per cents.
CMODEL_MAP = 5e-3
SKIPPED = {
    r".*_apCorr(Err)?$": "upstream never writes them (NaN); here they are written",
}


@dataclass
class Check:
    """One line of the printed table."""

    where: str
    what: str
    value: str
    ok: bool


@dataclass
class Report:
    """All checks, in order."""

    checks: list[Check] = field(default_factory=list)

    def add(self, where: str, what: str, value: str, ok: bool) -> None:
        """Append a check and print it."""
        self.checks.append(Check(where, what, value, ok))
        print(f"{where:22s} {what:44s} {value:48s} {'ok' if ok else 'FAILS'}", flush=True)

    @property
    def ok(self) -> bool:
        """Whether all checks passed."""
        return all(check.ok for check in self.checks)


def convert_config(path: Path) -> tuple[str, list[str]]:
    """Return the part of a stack's config dump that exists here.

    Parameters
    ----------
    path
        The dump.

    Returns
    -------
    text : `str`
        Override file.
    absent : `list` [`str`]
        Measurement plugins and PSF determiners that are left out.
    """
    config = FinalizeCharacterizationDetectorConfig()
    known = {
        "measurement.plugins": set(config.measurement.plugins.types),
        "measurement.undeblended": set(config.measurement.undeblended.types),
        "psf_determiner": set(config.psf_determiner.types),
    }
    lines = []
    absent: set[str] = set()
    for line in path.read_text().splitlines():
        if not line.startswith("config.") or line.startswith("config.connections."):
            continue
        entry = re.match(
            r"config\.(measurement\.plugins|measurement\.undeblended|psf_determiner)\['(\w+)'\]", line
        )
        if entry and entry[2] not in known[entry[1]]:
            absent.add(entry[2])
        elif line.startswith("config.measurement.plugins.names="):
            names = [n for n in re.findall(r"'(\w+)'", line) if n in known["measurement.plugins"]]
            lines.append(f"config.measurement.plugins.names={names!r}")
        elif (slot := re.match(r"config\.measurement\.slots\.\w+='(\w+)'", line)) and slot[1] not in known[
            "measurement.plugins"
        ]:
            lines.append(f"{line.split('=')[0]}=None")
        else:
            lines.append(line)
    return "\n".join(lines) + "\n", sorted(absent)


def run(*command: str) -> None:
    """Run a command of this environment; show its output if it fails."""
    # The environment need not be activated: its commands are beside Python.
    path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)])
    env = {"OMP_NUM_THREADS": "1"} | dict(os.environ) | {"PATH": path}
    result = subprocess.run(command, capture_output=True, text=True, env=env)
    if result.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{result.stdout}\n{result.stderr}")


def make_repo(golden: Path, repo: Path) -> None:
    """Import a golden set's export into a new butler."""
    run("butler", "create", str(repo))
    run("butler", "import", str(repo), str(golden / "export"), "--transfer", "copy")


def run_pipeline(
    repo: Path, pipeline: str, label: str, config: Path, output: str, detectors: list[int] | None, jobs: int
) -> None:
    """Run one of our pipelines on everything in the repository."""
    command = ["pipetask", "run", "-b", str(repo), "-i", "golden/inputs", "--output-run", output]
    command += ["-p", f"resource://lsst.meas.finalize/pipelines/{pipeline}", "-C", f"{label}:{config}"]
    command += ["--register-dataset-types", "-j", str(jobs)]
    if label == DETECTOR_LABEL:
        # All that can come through the prepared stars does so.
        command += ["-c", "prepareIsolatedStars:match_fgcm_standard_stars=True"]
        command += ["-c", f"{label}:use_prepared_photometry=True"]
    if detectors is not None:
        command += ["-d", f"instrument='SynthCam' AND detector IN ({','.join(map(str, detectors))})"]
    run(*command)


def compare_flags(report: Report, where: str, ours: astropy.table.Table, theirs: astropy.table.Table) -> None:
    """Compare which stars were candidates, reserved and used."""
    same_ids = len(ours) == len(theirs) and bool(np.all(ours["id"] == theirs["id"]))
    report.add(where, "stars", f"{len(ours)} (stack {len(theirs)})", same_ids)
    if same_ids:
        for flag in ("candidate", "reserved", "used"):
            n = int(np.sum(ours[f"calib_psf_{flag}"] != theirs[f"calib_psf_{flag}"]))
            report.add(where, f"calib_psf_{flag}", f"{n} differ", n == 0)


def compare_psf(report: Report, where: str, record, grid, variant: str) -> None:
    """Compare PSF images on a grid of points."""
    psf = as_batch_psf(record.psf)
    x, y = grid["points"].T
    compare_psf_images(
        report, where, psf.draw_kernel_images(x, y), psf.draw_star_images(x, y)[0], grid, variant
    )


def compare_psf_images(
    report: Report, where: str, kernel_images: np.ndarray, star_images: np.ndarray, grid, variant: str
) -> None:
    """Compare drawn PSFs."""
    tolerance = 1e-4 if variant == "field" else 1e-6
    for kind, images in (("kernel_images", kernel_images), ("star_images", star_images)):
        peak = grid[kind].max(axis=(1, 2))
        worst = float((np.abs(images - grid[kind]).max(axis=(1, 2)) / peak).max())
        report.add(where, f"PSF {kind}", f"{worst:.1e} of peak", worst < tolerance)


def compare_ap_corr(report: Report, where: str, record, grid) -> None:
    """Compare aperture-correction maps on a grid of points."""
    x, y = grid["points"].T
    names = {key.removeprefix("apcorr/") for key in grid.files if key.startswith("apcorr/")}
    ours = set(record.ap_corr_map)
    unexpected = sorted(ours - names)
    differences = {
        name: float(np.abs(record.ap_corr_map[name](x=x, y=y) - grid[f"apcorr/{name}"]).max())
        for name in sorted(names & ours)
    }
    for what, chosen, limit in (
        ("aperture corrections", {n: d for n, d in differences.items() if not CMODEL.match(n)}, 1e-5),
        (f"CModel's, {CMODEL_CAUSE}", {n: d for n, d in differences.items() if CMODEL.match(n)}, CMODEL_MAP),
    ):
        if chosen:
            worst = max(chosen, key=chosen.__getitem__)
            value = f"{len(chosen)} maps, worst {chosen[worst]:.1e} {worst}"
            report.add(where, what, value, chosen[worst] < limit)
    report.add(where, "maps", f"{len(differences)} of {len(names)}", bool(differences) and not unexpected)


def compare_layout(
    report: Report, where: str, ours: astropy.table.Table, theirs: astropy.table.Table
) -> None:
    """Compare names, order and types of the columns we have."""
    common = [name for name in theirs.colnames if name in ours.colnames]
    extra = [name for name in ours.colnames if name not in theirs.colnames]
    in_order = [name for name in ours.colnames if name in theirs.colnames] == common
    types = [name for name in common if ours[name].dtype != theirs[name].dtype]
    units = [name for name in common if ours[name].unit != theirs[name].unit]
    report.add(
        where,
        f"layout ({len(common)} of {len(theirs.colnames)} columns)",
        f"extra {extra[:3]}, types {types[:3]}, units {units[:3]}, order {'same' if in_order else 'differs'}",
        not extra and not types and not units and in_order,
    )


def error_column(name: str, table: astropy.table.Table) -> np.ndarray | None:
    """Return the error that belongs to a column, if the table has it."""
    for candidate in (f"{name}Err", re.sub(r"(instFlux)\w*$", r"\1Err", name)):
        if candidate != name and candidate in table.colnames:
            return np.asarray(table[candidate], dtype=float)
    return None


def agreement(
    name: str, ours: astropy.table.Table, theirs: astropy.table.Table, relative: float, in_errors: float
) -> float:
    """Return the fraction of rows that agree."""
    a, b = np.asarray(ours[name]), np.asarray(theirs[name])
    if not len(a):
        return 1.0
    if a.dtype.kind not in "fc":
        return float(np.mean(a == b))
    scale = np.abs(b)
    tolerance = relative * (np.nanmax(scale, initial=0.0) if OFFSETS.fullmatch(name) else scale)
    error = error_column(name, theirs)
    if error is not None:
        tolerance = np.fmax(tolerance, in_errors * error)
    with np.errstate(invalid="ignore"):
        good = (np.abs(a - b) <= tolerance) | (np.isnan(a) & np.isnan(b)) | (a == b)
    return float(np.mean(good))


def _is_cmodel_fit(name: str) -> bool:
    """Tell whether a column depends on where a fit of CModel ended."""
    return CMODEL.fullmatch(name) is not None and CMODEL_EXACT.fullmatch(name) is None


def compare_columns(
    report: Report, where: str, ours: astropy.table.Table, theirs: astropy.table.Table
) -> None:
    """Compare the values of all common columns."""
    skipped: dict[str, int] = {}
    n_good = n_flags = 0
    for name in theirs.colnames:
        if name not in ours.colnames or _is_cmodel_fit(name):
            continue
        if reason := next((why for pattern, why in SKIPPED.items() if re.match(pattern, name)), None):
            skipped[reason] = skipped.get(reason, 0) + 1
            continue
        is_exact = ours[name].dtype.kind not in "fc"
        needed, *limits = STRICT
        fraction = agreement(name, ours, theirs, *limits)
        if fraction >= (1.0 if is_exact else needed):
            n_good += 1
            n_flags += ours[name].dtype.kind == "b"
            continue
        cause = next((why for pattern, why in EXCEPTIONS.items() if re.fullmatch(pattern, name)), "")
        if cause and not is_exact:
            needed, *limits = RELAXED
            relaxed = agreement(name, ours, theirs, *limits)
            value = f"{fraction:.4f} strictly, {relaxed:.4f} within {limits[0]:g}: {cause}"
            report.add(where, name, value, relaxed >= needed)
        else:
            report.add(where, name, f"{fraction:.4f} of rows agree", False)
    for reason, n in skipped.items():
        print(f"{where:22s} {n} columns not compared: {reason}")
    report.add(where, "columns that agree", f"{n_good}, of these {n_flags} flags", n_good > 0)


def compare_cmodel(
    report: Report, where: str, ours: astropy.table.Table, theirs: astropy.table.Table, maps: dict
) -> None:
    """Compare flags of CModel, and the distribution of its fluxes as measured.

    Aperture corrections are taken out: one star that differs may change them.
    """
    names = [name for name in theirs.colnames if name in ours.colnames and _is_cmodel_fit(name)]
    flags = {name: agreement(name, ours, theirs, 0, 0) for name in names if ours[name].dtype.kind == "b"}
    if not flags:
        return
    worst = min(flags, key=flags.__getitem__)
    value = f"{flags[worst]:.4f} {worst}"
    report.add(where, f"{len(flags)} CModel flags", value, flags[worst] >= CMODEL_FLAGS)
    x, y = (np.asarray(theirs[f"slot_Centroid_{axis}"], dtype=float) for axis in "xy")
    fluxes = [match for name in names if (match := CMODEL_FLUX.fullmatch(name))]
    for match in fluxes:
        name, prefix, kind = match[0], match[1], match[2]
        ratio = np.asarray(ours[name]) / np.asarray(theirs[name])
        if kind != "_inner":  # which is left uncorrected
            ratio *= maps[f"{prefix}_instFlux"](x=x, y=y) / np.asarray(ours[f"{prefix}_apCorr"])
        ratio = ratio[np.isfinite(ratio)] - 1
        median = float(np.median(ratio))
        scatter = float(1.4826 * np.median(np.abs(ratio - median)))
        ok = abs(median) < CMODEL_MEDIAN and scatter < CMODEL_SCATTER
        report.add(where, name, f"ratio - 1: median {median:.1e}, scatter {scatter:.1e}", ok)
    n_other = len(names) - len(flags) - len(fluxes)
    print(f"{where:22s} {n_other} columns of CModel not compared star by star: {CMODEL_CAUSE}")


def compare_detector(
    report: Report, golden: Path, variant: str, detector: int, butler: Butler, run_name: str
) -> None:
    """Compare one detector."""
    expected = golden / "expected" / variant / f"detector_{detector}"
    where = f"{variant}/{detector}"
    ref = next(
        r
        for r in butler.query_datasets("calexp", collections="golden/inputs")
        if r.dataId["detector"] == detector
    )
    ours = butler.get("finalized_src_detector_table", ref.dataId, collections=run_name)
    record = butler.get("finalized_psf_ap_corr_detector_catalog", ref.dataId, collections=run_name).find(
        detector
    )
    import pyarrow.parquet

    from lsst.daf.butler.formatters.parquet import arrow_to_astropy

    theirs = arrow_to_astropy(pyarrow.parquet.read_table(expected / "finalized_src_detector_table.parquet"))
    grid = np.load(expected / "grid.npz", allow_pickle=False)
    compare_flags(report, where, ours, theirs)
    compare_psf(report, where, record, grid, variant)
    compare_ap_corr(report, where, record, grid)
    compare_layout(report, where, ours, theirs)
    if len(ours) == len(theirs):
        compare_columns(report, where, ours, theirs)
        stack = read_exposure_catalog(expected / "finalized_psf_ap_corr_detector_catalog.fits")
        compare_cmodel(report, where, ours, theirs, stack[0].ap_corr_map)


def main() -> int:
    """Compare all variants of a golden set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("golden", type=Path, help="path of a golden set")
    parser.add_argument("--variant", action="append", help="variant to compare; all if not given")
    parser.add_argument("--jobs", type=int, default=2, help="number of processes")
    args = parser.parse_args()
    variants = args.variant or sorted(p.name for p in (args.golden / "expected").iterdir() if p.is_dir())
    report = Report()
    with tempfile.TemporaryDirectory() as scratch:
        repo = Path(scratch) / "repo"
        make_repo(args.golden, repo)
        for variant in variants:
            compare_variant(report, args.golden, variant, repo, args.jobs)
    failed = [check for check in report.checks if not check.ok]
    print(f"\n{len(report.checks)} checks, {len(failed)} failed")
    return 0 if report.ok else 1


def compare_variant(report: Report, golden: Path, variant: str, repo: Path, jobs: int) -> None:
    """Run one variant and compare all its detectors."""
    expected = golden / "expected" / variant
    detectors = sorted(int(p.name.split("_")[1]) for p in expected.glob("detector_*"))
    text, absent = convert_config(expected / "config.py")
    print(f"variant {variant}: not in this package: {', '.join(absent)}")
    config = repo.parent / f"{variant}.py"
    config.write_text(text)
    run_name = f"compare/{variant}"
    run_pipeline(
        repo,
        "FinalizeCharacterization.yaml#prepare,finalize",
        DETECTOR_LABEL,
        config,
        run_name,
        detectors,
        jobs,
    )
    with Butler.from_config(str(repo)) as butler:
        for detector in detectors:
            compare_detector(report, golden, variant, detector, butler, run_name)
    if (expected / "finalized_src_table.parquet").exists():
        compare_consolidated(report, golden, variant, repo, config, run_name, jobs)


def compare_consolidated(
    report: Report, golden: Path, variant: str, repo: Path, config: Path, run_name: str, jobs: int
) -> None:
    """Compare the visit's outputs with the stack's and the visit task's."""
    visit_run = f"{run_name}/visit"
    run_pipeline(
        repo, "FinalizeCharacterizationVisit.yaml#finalize", VISIT_LABEL, config, visit_run, None, jobs
    )
    with Butler.from_config(str(repo)) as butler:
        ref = next(iter(butler.query_datasets("calexp", collections="golden/inputs")))
        outputs = [
            (
                butler.get("finalized_src_table", ref.dataId, collections=collection),
                butler.get("finalized_psf_ap_corr_catalog", ref.dataId, collections=collection),
            )
            for collection in (run_name, visit_run)
        ]
    (table, catalog), (visit_table, visit_catalog) = outputs
    theirs = read_exposure_catalog(golden / "expected" / variant / "finalized_psf_ap_corr_catalog.fits")
    report.add(
        variant,
        "consolidated catalog",
        f"detectors {catalog['id'].tolist()}",
        catalog["id"].tolist() == theirs["id"].tolist()
        and catalog.metadata.get("COMMENT") == theirs.metadata.get("COMMENT"),
    )
    same = [
        name
        for name in table.colnames
        if name.endswith("_time")  # how long CModel took
        or np.array_equal(table[name], visit_table[name], equal_nan=table[name].dtype.kind == "f")
    ]
    report.add(
        variant,
        "visit task: equal columns",
        f"{len(same)} of {len(table.colnames)}",
        same == visit_table.colnames,
    )
    x, y = np.array([100.0, 300.0]), np.array([200.0, 250.0])
    difference = max(
        float(
            np.abs(
                as_batch_psf(a.psf).draw_kernel_images(x, y) - as_batch_psf(b.psf).draw_kernel_images(x, y)
            ).max()
        )
        for a, b in zip(catalog, visit_catalog, strict=True)
    )
    report.add(variant, "visit task: PSF images", f"{difference:.1e}", difference == 0.0)


if __name__ == "__main__":
    sys.exit(main())
