# SPDX-License-Identifier: MIT
# For suite-*.sh: what they all are given, in checkout, version, kind and mode. Further words are left.
[ $# -ge 3 ] || { sed -n '/^# suite-/,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(cd "$(dirname "$0")" && pwd)
cli=${LOWERWATCH_CLI:-$here/../../dist/cli/main.js}
checkout=$1 version=$2 kind=$3 mode=${4:--}
shift 3
[ $# -eq 0 ] || shift
cd "$checkout"
