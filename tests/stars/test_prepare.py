# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from astropy.table import Table, vstack

from lsst.meas.finalize.catalogs import Schema, SourceCatalog
from lsst.meas.finalize.stars import (
    PREPARED_FORMAT,
    InputNames,
    PreparedStandardStars,
    ReserveIsolatedStarsConfig,
    ReserveIsolatedStarsTask,
    concat_isolated_star_cats,
    fgcm_magnitudes,
    prepare_isolated_stars,
    psf_colors,
    read_fgcm_standard_stars,
    read_prepared_stars,
)

VISIT = 20260304011
ARCSEC = 1 / 3600


def make_tables(seed: int, n: int = 80) -> tuple[Table, Table]:
    """Make stars of a tract with sources in two visits and 4 detectors."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 5, n).astype(np.int32)
    star = np.repeat(np.arange(n), counts)
    stars = Table(
        {
            "ra": 359.99 + 0.02 * rng.random(n),
            "dec": -30 + 0.01 * rng.random(n),
            "nsource_r": counts,
            "source_cat_index_r": np.cumsum(counts) - counts,
            "nsource_z": np.zeros(n, np.int32),
            "source_cat_index_z": np.zeros(n, np.int32),
        }
    )
    sources = Table(
        {
            "sourceId": 2**60 + 1000 * seed + rng.permutation(len(star)),
            "myId": rng.permutation(len(star)),
            "obj_index": star.astype(np.int32),
            "visit": VISIT + rng.integers(0, 2, len(star)),
            "detector": rng.integers(0, 4, len(star)).astype(np.int16),
        }
    )
    return stars, sources


@pytest.fixture
def tables() -> tuple[dict[int, Any], dict[int, Any]]:
    """Return tables of three tracts; some sources are in two of them."""
    pairs = {tract: make_tables(tract) for tract in (3, 5, 8)}
    stars, sources = ({t: p[i] for t, p in pairs.items()} for i in (0, 1))
    rows = np.flatnonzero(sources[3]["visit"] == VISIT)[:20]
    again = np.flatnonzero(sources[8]["visit"] == VISIT)[:20]
    for name in ("sourceId", "detector"):
        sources[8][name][again] = sources[3][name][rows]
    return stars, sources


OPTIONS: dict[str, Any] = {"id_column": "sourceId", "visit": VISIT}


def reserve(**options: Any) -> ReserveIsolatedStarsTask:
    """Return a task that reserves stars."""
    config = ReserveIsolatedStarsConfig(**({"reserve_fraction": 0.3} | options))
    return ReserveIsolatedStarsTask(config=config)


def last_reserved(sources: Table | None, id_column: str = "sourceId") -> dict[int, bool]:
    """Return whether sources are reserved; the last row of an id counts."""
    if sources is None:
        return {}
    return dict(zip(sources[id_column].tolist(), sources["reserved"].tolist(), strict=True))


def direct(tables: Any, detector: int, task: Any, **options: Any) -> dict[int, bool]:
    """Return what is read without preparation."""
    options = OPTIONS | options
    sources = concat_isolated_star_cats("r", *tables, reserve=task, detector=detector, **options)[1]
    return last_reserved(sources, options["id_column"])


def prepared(table: Any, detector: int, task: Any, **options: Any) -> dict[int, bool]:
    """Return what is read from a prepared table."""
    options = OPTIONS | options
    stars = read_prepared_stars(table, "r", reserve=task, detector=detector, **options)
    return {} if stars is None else last_reserved(stars.sources, options["id_column"])


def test_every_detector_gets_what_it_would_read(tables: Any) -> None:
    """Give each detector its sources, the later tract's if there are two."""
    table = prepare_isolated_stars("r", *tables, reserve=reserve(), **OPTIONS)
    assert table is not None
    repeated = 0
    for detector in range(5):
        expected = direct(tables, detector, reserve())
        assert prepared(table, detector, reserve()) == expected
        repeated += np.sum(table["detector"] == detector) - len(expected)
    assert repeated > 10
    keys = np.lexsort((table["tract"], table["sourceId"], table["detector"]))
    assert keys.tolist() == list(range(len(table)))
    assert all(column.description for column in table.itercols())


@pytest.mark.parametrize(
    "options", [{"reserve_fraction": 0.6}, {"reserve_name": "x"}, {"reserve_fraction": 0.0}]
)
def test_other_reserve_options_hold(tables: Any, options: dict[str, Any]) -> None:
    """Reserve by the options of the reader, not of the preparation."""
    table = prepare_isolated_stars("r", *tables, reserve=reserve(), **OPTIONS)
    for detector in range(4):
        assert prepared(table, detector, reserve(**options)) == direct(tables, detector, reserve(**options))
    assert direct(tables, 1, reserve(**options)) != direct(tables, 1, reserve())


def test_functions_reserve_as_well(tables: Any) -> None:
    """Take a function or another class on either side."""

    class Odd(ReserveIsolatedStarsTask):
        def run(self, nstar: int, extra: str = "") -> np.ndarray:
            return np.arange(nstar) % 3 == len(extra) % 3

    choices: list[Any] = [
        reserve(),
        Odd(config=ReserveIsolatedStarsConfig()),
        lambda n, extra: np.arange(n) > 30,
    ]
    for maker in choices:
        table = prepare_isolated_stars("r", *tables, reserve=maker, **OPTIONS)
        for reader in choices:
            assert prepared(table, 2, reader) == direct(tables, 2, reader)


def test_unknown_hash_of_preparation_is_like_no_other(tables: Any) -> None:
    """Use the stored flags only if they were chosen alike."""
    table = prepare_isolated_stars("r", *tables, reserve=reserve(), **OPTIONS)
    assert table is not None
    expected = prepared(table, 1, reserve())
    table["reserved"] = False
    assert not any(prepared(table, 1, reserve()).values())
    assert prepared(table, 1, reserve(reserve_fraction=0.30000000001)) == expected


def test_id_column_is_kept(tables: Any) -> None:
    """Prepare another id column, and refuse to read a third."""
    table = prepare_isolated_stars("r", *tables, reserve=reserve(), visit=VISIT, id_column="myId")
    assert prepared(table, 0, reserve(), id_column="myId") == direct(tables, 0, reserve(), id_column="myId")
    with pytest.raises(KeyError, match="sourceId"):
        prepared(table, 0, reserve())


def test_nothing_gives_none(tables: Any) -> None:
    """Return None for no source of the visit, the band, or the detector."""
    assert prepare_isolated_stars("z", *tables, reserve=reserve(), **OPTIONS) is None
    assert prepare_isolated_stars("r", *tables, reserve=reserve(), visit=5, id_column="sourceId") is None
    assert prepare_isolated_stars("r", {}, {}, reserve=reserve(), **OPTIONS) is None
    empty = tuple({4: make_tables(1)[i][:0]} for i in (0, 1))
    assert prepare_isolated_stars("r", *empty, reserve=reserve(), **OPTIONS) is None


def test_other_tables_are_refused(tables: Any) -> None:
    """Name the visit, the version or the columns of another table."""
    table = prepare_isolated_stars("r", *tables, reserve=reserve(), **OPTIONS)
    assert table is not None
    for detector in (1, 77):
        for name in ("visit", "format_version"):
            other = table.copy()
            other[name] += 1
            with pytest.raises(ValueError, match=f"visit {VISIT} is of {name} {table[name][0] + 1}, not"):
                prepared(other, detector, reserve())
    with pytest.raises(KeyError, match="format_version"):
        prepared(tables[1][3], 1, reserve())
    # Other versions have other columns.
    old = table.copy()
    old.remove_column("star_index")
    with pytest.raises(KeyError, match="star_index"):
        prepared(old, 1, reserve())
    old["format_version"] = 1
    with pytest.raises(ValueError, match=f"of format_version 1, not {PREPARED_FORMAT}"):
        prepared(old, 1, reserve())
    with pytest.raises(KeyError, match="fgcm_row"):
        prepared(table, 1, reserve(), standard_stars=True)


NAMES = InputNames("cats", "sources", "standards")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"isolated_star_cats": "x"}, "isolated_star_cats = 'x' and isolated_star_sources = 'sources'"),
        ({"isolated_star_sources": "x"}, "isolated_star_cats = 'cats' and isolated_star_sources = 'x'"),
        ({"fgcm_standard_star": "x"}, "fgcm_standard_star = 'x'"),
    ],
)
def test_datasets_of_other_names_are_refused(tables: Any, change: dict[str, str], message: str) -> None:
    """Tell from the table alone that it was made of other datasets."""
    fgcm = make_fgcm(tables[0], np.random.default_rng(1))
    with_names, without = (
        prepare_isolated_stars(
            "r", *tables, reserve=reserve(), fgcm_standard_star_dict=fgcm, names=names, **OPTIONS
        )
        for names in (NAMES, None)
    )
    read = {"standard_stars": True, "names": replace(NAMES, **change)}
    expected = direct(tables, 1, reserve())
    with pytest.raises(ValueError, match=f"visit {VISIT} was made with other connections than {message}"):
        prepared(with_names, 1, reserve(), **read)
    assert prepared(with_names, 1, reserve(), **read | {"names": NAMES}) == expected
    assert prepared(without, 1, reserve(), **read) == expected
    if "fgcm_standard_star" in change:
        assert prepared(with_names, 1, reserve(), **read | {"standard_stars": False}) == expected


def make_fgcm(stars: dict[int, Table], rng: np.random.Generator) -> dict[int, Table]:
    """Make standard stars: one per star, some twice, some close by."""
    tables = {}
    for tract, table in stars.items():
        n = len(table)
        parts = []
        for keep, scatter in ((1.0, 0.1), (0.3, 0.9), (0.3, 3.0)):
            use = rng.random(n) < keep
            angle = 2 * np.pi * rng.random(n)
            radius = scatter * ARCSEC * rng.random(n)
            ra = table["ra"] + radius * np.cos(angle) / np.cos(np.deg2rad(30))
            columns = {"ra": ra % 360, "dec": table["dec"] + radius * np.sin(angle)}
            parts.append(Table(columns | {f"mag_{b}": rng.uniform(15, 22, n) for b in "gri"})[use])
        tables[tract] = vstack(parts)[rng.permutation(sum(map(len, parts)))]
    return tables


def make_catalog(tables: Any, detector: int, rng: np.random.Generator, offset: float = 0.5) -> SourceCatalog:
    """Make the catalogue of a detector's isolated sources."""
    rows: dict[int, tuple[float, float]] = {}
    for tract, sources in tables[1].items():
        for source in sources[(sources["visit"] == VISIT) & (sources["detector"] == detector)]:
            star = tables[0][tract][source["obj_index"]]
            shift = offset * ARCSEC * rng.uniform(-1, 1, 2)
            rows[int(source["sourceId"])] = (star["ra"] + shift[0], star["dec"] + shift[1])
    catalog = SourceCatalog(Schema.source_minimal(), len(rows))
    catalog["id"] = list(rows)
    catalog["coord_ra"], catalog["coord_dec"] = np.deg2rad(np.array(list(rows.values())).T)
    return catalog


def photometry(catalog: SourceCatalog, fgcm: Any) -> list[np.ndarray]:
    """Return everything that is looked up for sources."""
    ra, dec = catalog["coord_ra"], catalog["coord_dec"]
    return [*psf_colors(ra, dec, fgcm, "g-i"), *fgcm_magnitudes(ra, dec, fgcm, "girz").values()]


@pytest.mark.parametrize("seed", range(3))
def test_photometry_is_the_same(tables: Any, seed: int) -> None:
    """Find the same standard stars for sources off the mean positions."""
    rng = np.random.default_rng(seed)
    fgcm = make_fgcm(tables[0], rng)
    fgcm[5].remove_column("mag_g")
    fgcm[8] = Table(fgcm[8], masked=True)
    fgcm[8]["mag_i"].mask[::3] = True
    table = prepare_isolated_stars("r", *tables, reserve=reserve(), fgcm_standard_star_dict=fgcm, **OPTIONS)
    assert table is not None
    assert table["fgcm_row"].shape[1] > 2
    matched = 0
    for detector in range(4):
        # The same star isolated in two tracts has two positions here.
        catalog = make_catalog(tables, detector, rng)
        catalog["coord_ra"][0] = np.nan
        options = OPTIONS | {"detector": detector, "standard_stars": True}
        stars = read_prepared_stars(table, "r", reserve=reserve(), **options)
        assert stars is not None
        assert stars.standard_stars is not None
        got = photometry(catalog, stars.standard_stars.near(catalog))
        for ours, expected in zip(got, photometry(catalog, read_fgcm_standard_stars(fgcm)), strict=True):
            np.testing.assert_array_equal(ours, expected)
        matched += np.isfinite(got[0]).sum()
    assert matched > 20


def test_sources_far_off_their_stars_are_refused(tables: Any) -> None:
    """Refuse what could have a standard star that isn't in the table."""
    rng = np.random.default_rng(1)
    fgcm = make_fgcm(tables[0], rng)
    table = prepare_isolated_stars("r", *tables, reserve=reserve(), fgcm_standard_star_dict=fgcm, **OPTIONS)
    stars = read_prepared_stars(table, "r", reserve=reserve(), detector=1, standard_stars=True, **OPTIONS)
    assert stars is not None
    assert stars.standard_stars is not None
    catalog = make_catalog(tables, 1, rng)
    catalog["coord_dec"][3] += np.deg2rad(3 * ARCSEC)
    with pytest.raises(ValueError, match=f"source {catalog['id'][3]}, .*use_prepared_photometry"):
        stars.standard_stars.near(catalog)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[0].remove_column("ra"), "isolated_star_cats of tract 5 has no columns .*'ra'"),
        (lambda t: t[1].remove_column("visit"), "isolated_star_sources of tract 5 has no columns .*'visit'"),
        (lambda t: t[2].remove_column("dec"), "fgcm_standard_star of tract 5 has no columns .*'dec'"),
        (
            lambda t: t[2].replace_column("mag_i", ["x"] * len(t[2])),
            "'mag_i' of fgcm_standard_star of tract 5",
        ),
    ],
)
def test_bad_tables_are_named(tables: Any, change: Callable[[Any], None], message: str) -> None:
    """Name dataset, tract and column of what can't be prepared."""
    fgcm = make_fgcm(tables[0], np.random.default_rng(1))
    change((tables[0][5], tables[1][5], fgcm[5]))
    with pytest.raises((KeyError, ValueError), match=message):
        prepare_isolated_stars("r", *tables, reserve=reserve(), fgcm_standard_star_dict=fgcm, **OPTIONS)


def test_crowds_of_standard_stars_are_refused(tables: Any) -> None:
    """Refuse a width that no file is to have, naming the options."""
    seen = np.flatnonzero(tables[0][5]["nsource_r"])[0]
    tables[1][5]["visit"][tables[1][5]["obj_index"] == seen] = VISIT
    crowd = Table({name: np.full(65, tables[0][5][name][seen]) for name in ("ra", "dec")})
    crowd["mag_g"] = 20.0
    with pytest.raises(ValueError, match="has 65 stars .*match_fgcm_standard_stars.*use_prepared_photometry"):
        prepare_isolated_stars("r", *tables, reserve=reserve(), fgcm_standard_star_dict={5: crowd}, **OPTIONS)


def test_no_standard_stars_at_all(tables: Any) -> None:
    """Prepare and read stars of which none is a standard star."""
    fgcm = {t: table[:0] for t, table in make_fgcm(tables[0], np.random.default_rng(1)).items()}
    table = prepare_isolated_stars("r", *tables, reserve=reserve(), fgcm_standard_star_dict=fgcm, **OPTIONS)
    stars = read_prepared_stars(table, "r", reserve=reserve(), detector=1, standard_stars=True, **OPTIONS)
    assert stars is not None
    assert stars.standard_stars is not None
    catalog = make_catalog(tables, 1, np.random.default_rng(1))
    assert all(np.isnan(c).all() for c in photometry(catalog, stars.standard_stars.near(catalog))[2:])


def test_a_source_of_two_stars_is_near_one_of_them() -> None:
    """Measure how far a source is off the nearer one, and return no rows of
    stars without a standard star.
    """
    near, far = 10.0, 10.0 + 5 / 3600
    piece = {
        "ra": np.array([near, far]),
        "dec": np.zeros(2),
        "fgcm_row": np.array([[4], [-1]]),
        "fgcm_ra": np.array([[near], [np.nan]]),
        "fgcm_dec": np.array([[0.0], [np.nan]]),
        "fgcm_mag_r": np.array([[17.0], [np.nan]]),
    }
    schema = Schema.source_minimal()
    catalog = SourceCatalog(schema, 1)
    catalog["id"], catalog["coord_ra"], catalog["coord_dec"] = 5, np.deg2rad(near), 0.0
    for order in ([0, 1], [1, 0]):
        ordered = {name: values[order] for name, values in piece.items()}
        table = PreparedStandardStars(np.array([5, 5]), [ordered], "The table").near(catalog)
        assert table["mag_r"].tolist() == [17.0]
    catalog["coord_ra"] = np.deg2rad(near - 3 / 3600)
    with pytest.raises(ValueError, match="The table has no magnitudes for 1 sources, as source 5"):
        PreparedStandardStars(np.array([5, 5]), [piece], "The table").near(catalog)
