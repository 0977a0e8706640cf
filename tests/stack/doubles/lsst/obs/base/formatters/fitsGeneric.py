# This file is part of meas_finalize.
#
# An independent implementation, no product of Rubin Observatory.
# See the COPYRIGHT file at the top-level directory of this distribution
# for details of code ownership.
#
# Use of this source code is governed by a 3-clause BSD-style
# license that can be found in the LICENSE file.

"""A stand-in for the formatters of ``lsst.obs.base``."""

from __future__ import annotations

from typing import Any

from lsst.daf.butler import FormatterV2


class FitsGenericFormatter(FormatterV2):
    """Let objects read and write themselves."""

    default_extension = ".fits"
    supported_write_parameters = frozenset({"recipe"})
    can_read_from_local_file = True

    def read_from_local_file(self, path: str, component: str | None = None, expected_size: int = -1) -> Any:
        assert component is None
        return self.file_descriptor.storageClass.pytype.readFits(path)

    def write_local_file(self, in_memory_dataset: Any, uri: Any) -> None:
        assert type(in_memory_dataset) is self.file_descriptor.storageClass.pytype
        in_memory_dataset.writeFits(uri.ospath)

    @classmethod
    def validate_write_recipes(cls, recipes: Any) -> Any:
        return recipes
