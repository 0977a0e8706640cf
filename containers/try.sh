#!/usr/bin/env bash
# Build the image where docker or podman works; elsewhere do the same in a
# temporary folder, for which one needn't be root.  Either way, simulate a
# detector with what was installed.
# Usage: containers/try.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
simulate=(simulate-visit REPO --detectors 1 --size 300 --stars 5 --galaxies 0)

for engine in docker podman; do
    if "$engine" info >/dev/null 2>&1; then
        "$engine" build -t meas_finalize-try -f containers/Dockerfile .
        exec "$engine" run --rm -w /tmp meas_finalize-try butler "${simulate[@]}"
    fi
done

echo "There is no container engine: running containers/install.sh below a temporary folder."
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
unset PYTHONPATH VIRTUAL_ENV
mkdir "$root/checkout"
git ls-files -z | tar -c --null -T - | tar -x -C "$root/checkout"
python=$(.ci/find-python)
cd "$root"
PYTHON=$python sh checkout/containers/install.sh "$root/checkout" "$root/prefix"
# What was installed doesn't need the checkout.
rm -r checkout
prefix/bin/butler "${simulate[@]}"
