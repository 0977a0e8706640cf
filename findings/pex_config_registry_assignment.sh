#!/usr/bin/env bash
# Assigning one registry field to another makes the options of items nobody selected.
#
# Version: lsst-pex-config 30.2026.4300.
# Behaviour: a registry field makes the options of an item when they are
# looked at or the item is selected; Config.copy keeps it so.  Assigning the
# field of one config to that of another (as nested default values do, too)
# makes those of every registered item, on both sides: their setDefaults run,
# and if one raises, for example since it imports what isn't installed, the
# assignment fails although that item is never used.  In a config of a pipeline
# task with dozens of registered plugins it is most of the time it takes to
# make one.
# Output seen: made used 1, unused 0; copied used 0, unused 0; assigned used 0, unused 2; then ImportError
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check lsst-pex-config==30.2026.4300

"$folder/venv/bin/python" - <<'PYTHON'
from lsst.pex.config import Config, Field, Registry

made = {"used": 0, "unused": 0}
missing = False


def options_of(name):
    class Options(Config):
        size = Field[int]("A size.", default=1)

        def setDefaults(self):
            super().setDefaults()
            made[name] += 1
            if missing and name == "unused":
                raise ImportError("a module that isn't installed")

    return Options


registry = Registry(Config)
for name in made:
    registry.register(name, object, options_of(name))


class Task(Config):
    item = registry.makeField("What is run.", default="used")


def count(what, action):
    made.update(used=0, unused=0)
    result = action()
    print(f"{what} used {made['used']}, unused {made['unused']}", end="; ")
    return result, dict(made)


first, found = count("made", Task)
assert found == {"used": 1, "unused": 0}, found
second, found = count("copied", first.copy)
assert found == {"used": 0, "unused": 0}, found
other = Task()
_, found = count("assigned", lambda: setattr(other, "item", first.item))
assert found == {"used": 0, "unused": 2}, "Only what is selected or was looked at is made now."
missing = True
try:
    Task().item = Task().item
except ImportError:
    print("then ImportError")
else:
    raise SystemExit("The item that isn't used doesn't matter now.")
PYTHON
