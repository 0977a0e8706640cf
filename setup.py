# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""Build hook: put ``lsst_meas_finalize.pth`` into site-packages.

Everything else is declared in ``pyproject.toml``.
"""

from __future__ import annotations

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

PTH = Path("python/lsst_meas_finalize.pth")


class BuildWithPth(build_py):
    """Put the .pth file at the top of the wheel, be it plain or editable."""

    def run(self) -> None:
        """Build the packages, then copy the file."""
        super().run()
        # The content of an editable wheel is what "install" is pointed at.
        install = self.get_finalized_command("install")
        top = install.install_lib if self.editable_mode else self.build_lib
        self.copy_file(str(PTH), str(Path(top, PTH.name)))


setup(cmdclass={"build_py": BuildWithPth})
