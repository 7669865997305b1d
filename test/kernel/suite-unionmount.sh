#!/bin/sh
# SPDX-License-Identifier: MIT
# unionmount-testsuite in a kernel of the tests, with its layers and mount points on tmpfs.
#
# suite-unionmount.sh CHECKOUT VERSION stock|patched [MODE [WORD...]]
#
# CHECKOUT is a clone of https://github.com/amir73il/unionmount-testsuite; nothing is written there. MODE, for patched,
# is what the module parameter lower_changes is set to, else "-". With WORDs, one run with these; else the usual three.
# A line RESULT for each run has the number of tests and the exit status; kernel messages follow, with their counts.
# The exit status is that of a run that failed. LOWERWATCH_CLI says where lowerwatch is, if not in this project.
set -eu
. "$(dirname "$0")/suite-arguments.sh"

# $1 is this folder, $2 the mode, the rest are the words of a run.
in_guest='
set -eu
export PYTHONDONTWRITEBYTECODE=1
. "$1/suite-root.sh"
mode=$2
shift 2

own_root base lower upper

default_mode "$mode"

# Mounts of a run are its own, so that several can go at once.
run() {
  log=$(mktemp)
  unshare -m sh -c "./run \"\$@\" || { status=\$?; ./run --clean-up || true; exit \$status; }" sh "$@" >$log 2>&1 && status=0 || status=$?
  [ $status = 0 ] || tail -n 30 $log
  echo "RESULT $(uname -r) $mode: run $*: $(grep -c "^TEST " $log || true) tests, exit status $status"
  return $status
}
dmesg -C
failed=0
if [ $# -gt 0 ]; then
  run "$@" || failed=$?
else
  run --ov --samefs & one=$!
  run --ov=10 --maxfs=5 & two=$!
  run --ov --verify & three=$!
  for pid in $one $two $three; do wait $pid || failed=$?; done
fi
dmesg -t | sed "s/ ([0-9]*): / (PID): /" | sort | uniq -c | sed "s/^/  kernel: /"
exit $failed
'
exec node "$cli" kernel boot --version "$version" "--$kind" -- unshare -m sh -c "$in_guest" guest "$here" "$mode" "$@"
