#!/usr/bin/env bash
# Importing Parsl changes what other libraries' picklers write.
#
# Versions: parsl 2026.10.26, dill 0.4.1, CPython 3.12 and 3.13.
# Behaviour: Parsl imports dill, and dill, when imported, replaces entries of
# the table of the standard library's pickler in Python (pickle._Pickler) in
# place.  A subclass that says how classes are named by overriding
# save_global() starts from that table: after an import of Parsl by anybody in
# the process its method isn't asked for a class any more, and other names are
# in its files, without an error.
# Output seen: alone 'stored.Name'; beside parsl 'things.Thing'
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check parsl==2026.10.26 dill==0.4.1

cd "$folder"
echo "class Thing: pass" > things.py
cat > write.py <<'PYTHON'
import importlib
import io
import pickle
import pickletools
import sys

from things import Thing

for name in sys.argv[1:]:
    importlib.import_module(name)


class Renaming(pickle._Pickler):
    def save_global(self, obj, name=None):
        if obj is Thing:
            self.save("stored")
            self.save("Name")
            self.write(pickle.STACK_GLOBAL)
            self.memoize(obj)
        else:
            super().save_global(obj, name)


stream = io.BytesIO()
Renaming(stream, 4).dump(Thing())
texts = [argument for code, argument, _ in pickletools.genops(stream.getvalue()) if code.name == "SHORT_BINUNICODE"]
print(".".join(texts[:2]))
PYTHON
alone=$(venv/bin/python write.py)
beside=$(venv/bin/python write.py parsl)
echo "alone '$alone'; beside parsl '$beside'"
[ "$alone" = stored.Name ] && [ "$beside" = things.Thing ]
