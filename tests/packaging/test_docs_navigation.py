# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Tests of where the navigation of the documentation has its pages."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from pathlib import Path

DOC = Path(__file__).parents[2] / "doc"
TREE = re.compile(r"^\.\. toctree::\n((?:   .*\n|\n)+)", re.MULTILINE)
# Documenteer's lists of tasks put every page of a folder into the navigation.
LIST = re.compile(r"^\.\. lsst-\w+::\n(?:   .*\n)*?   :toctree: (\S+)\n", re.MULTILINE)


def pages() -> set[str]:
    """Return the names of the pages that are written by hand."""
    paths = (path.relative_to(DOC) for path in DOC.rglob("*.rst"))
    # The folders at the top are made by the build, or are fragments of news.
    return {str(path.with_suffix("")) for path in paths if path.parts[0] not in ("api", "changes", "_build")}


def children(page: str) -> list[str]:
    """Return the pages that the navigation has below a page, as often as it
    has them.
    """
    text, folder = (DOC / f"{page}.rst").read_text(), posixpath.dirname(page)
    entries = [line.strip() for tree in TREE.findall(text) for line in tree.splitlines()]
    found = [posixpath.join(folder, entry) for entry in entries if entry and not entry.startswith(":")]
    for name in LIST.findall(text):
        listed = posixpath.join(folder, name)
        found += [other for other in pages() if posixpath.dirname(other) == listed]
    return found


def test_each_page_is_listed_once() -> None:
    """Count the pages in all lists of contents."""
    listed = Counter(child for page in pages() for child in children(page))
    assert {page: n for page, n in listed.items() if n > 1} == {}
    assert listed.keys() == pages() - {"index"}
