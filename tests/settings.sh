#!/bin/sh
# The suite in the settings that it must pass in, one by one or all: tests/settings.sh [SETTING ...]
#   features  every feature off for which the suite has a switch
#   core      one processor core
#   pure      without the compiled core
#   locale    LC_ALL=C, and Python without its UTF-8 mode
#   user      another user than root, SDTRT_TEST_USER (default nobody), in a copy of this clone
#   cpu       no extra but `cpu`, in an environment of its own in build/
# PYTHON is the interpreter of all but the last, ARGS are more arguments of pytest: ARGS='-n 2 tests/front'.
set -eu
cd "$(dirname "$0")/.."
python=$(realpath -s "${PYTHON:-.venv/bin/python}")
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

suite() { "$1" -m pytest -q --dist loadfile --no-loadscope-reorder ${ARGS:-}; }

as_user() {
    name=${SDTRT_TEST_USER:-nobody}
    copy=$(mktemp -d)
    trap 'rm -rf "$copy"' EXIT
    git clone --quiet . "$copy/sdtrt"
    chown -R "$name" "$copy"
    su "$name" -s /bin/sh -c "cd '$copy/sdtrt' && PYTHONPATH='$copy/sdtrt' '$python' -m pytest -q ${ARGS:-}"
}

with_cpu_alone() {
    test -x build/cpu/bin/python || "$python" -m venv build/cpu
    build/cpu/bin/python -m pip install --quiet -c constraints.txt -e '.[cpu]' hypothesis pytest pytest-xdist
    suite "$PWD/build/cpu/bin/python"
}

for setting in "${@:-features core pure locale user cpu}"; do
    for one in $setting; do
        echo "settings.sh: $one"
        case $one in
            features) (export SDTRT_TEST_WITHOUT=all; suite "$python") ;;
            core) taskset -c 0 "$python" -m pytest -q ${ARGS:-} ;;
            pure) (export SDTRT_PURE=1; suite "$python") ;;
            locale) (export LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0; suite "$python") ;;
            user) (as_user) ;;
            cpu) with_cpu_alone ;;
            *) echo "settings.sh: unknown setting $one" >&2; exit 2 ;;
        esac
    done
done
