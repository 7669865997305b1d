#!/bin/sh
# SPDX-License-Identifier: MIT
# The overlay tests of xfstests in a kernel of the tests, on two ext4 file systems in images in its memory.
#
# suite-xfstests.sh CHECKOUT VERSION stock|patched [MODE [TEST...]]
#
# CHECKOUT is a built clone of xfstests; nothing is written there. MODE, for patched, is what the module parameter
# lower_changes is set to, else "-". TESTs are such as overlay/001; if there are none, the group auto without union and 058.
# Each processor of that kernel takes its share of them.
# A line for each test: its name, pass, fail or notrun, seconds or the reason; then what the failed ones said, the kernel
# messages that are alarms or of overlayfs, and a line RESULT with the counts. The exit status is 0 if no test failed.
# UNIONMOUNT_TESTSUITE, a checkout of unionmount-testsuite, is for the group union. LOWERWATCH_CLI says where lowerwatch is,
# if not in this project.
set -eu
. "$(dirname "$0")/suite-arguments.sh"
# 058 leaves a process that keeps the scratch mount busy for those that follow, on a stock kernel too.
[ $# -gt 0 ] || set -- $(awk '/^[0-9].* auto/ && !/ union/ && $1 != "058" { print "overlay/" $1 }' tests/overlay/group.list)

# $1 is this folder, $2 the mode, $3 a directory or nothing, the rest are tests.
in_guest='
set -eu
export PYTHONDONTWRITEBYTECODE=1
. "$1/suite-root.sh"
mode=$2
[ -z "$3" ] || export UNIONMOUNT_TESTSUITE="$3"
shift 3

own_root mnt/images mnt/test mnt/scratch

# Users that some tests want, for this kernel only.
for file in passwd group; do
  cp /etc/$file /tmp/$file
  id=61000
  for user in fsgqa 123456-fsgqa fsgqa2; do
    id=$((id + 1))
    case $file in
      passwd) echo "$user:*:$id:$id::/tmp:/bin/bash" ;;
      group) echo "$user:x:$id:" ;;
    esac >>/tmp/$file
  done
  mount --bind /tmp/$file /etc/$file
done

mount -t tmpfs -o size=4G images /mnt/images

# 3 rounds of fsstress in overlay/019 and not 100, which take an hour.
cp ltp/fsstress /tmp/fsstress.all
printf "#!/bin/sh\nexec /tmp/fsstress.all \"\$@\" -l 3\n" >/tmp/fsstress
chmod +x /tmp/fsstress
mount --bind /tmp/fsstress ltp/fsstress

default_mode "$mode"

dmesg -C
# $1 is its number, the rest are tests. Its mounts are its own.
share() {
  number=$1
  shift
  for name in test scratch; do
    truncate -s 10G /mnt/images/$name$number
    mkfs.ext4 -q -N 65536 -J size=16 -E lazy_itable_init=1,nodiscard /mnt/images/$name$number
  done
  cat >/tmp/config$number <<END
export FSTYP=ext4
export TEST_DEV=$(losetup --find --show /mnt/images/test$number) TEST_DIR=/mnt/test
export SCRATCH_DEV=$(losetup --find --show /mnt/images/scratch$number) SCRATCH_MNT=/mnt/scratch
export RESULT_BASE=/tmp/results$number
END
  HOST_OPTIONS=/tmp/config$number unshare -m ./check -overlay "$@" 2>&1 | tee /tmp/log$number | sed -un "
    s/^\(overlay\/[0-9]*\) .*\[not run\] */\1 notrun /p
    s/^\(overlay\/[0-9]*\) .*\[expunged\].*/\1 expunged/p
    s/^\(overlay\/[0-9]*\) .*\(\[failed, \|- output mismatch\|_check_\).*/\1 fail/p
    s/^\(overlay\/[0-9]*\) .*[ .]\([0-9]*s\)$/\1 pass \2/p" | tee -a /tmp/tests
}
shares=$(nproc)
pids=
for number in $(seq $shares); do
  at=0 mine=
  for test in "$@"; do
    [ $((at % shares + 1)) != $number ] || mine="$mine $test"
    at=$((at + 1))
  done
  [ -n "$mine" ] || continue
  share $number $mine &
  pids="$pids $!"
done
wait $pids

sed -n "s/^Failures: //p" /tmp/log* | tr " " "\n" | sed "/^$/d" >/tmp/failures
for test in "$@"; do
  grep -q "^$test " /tmp/tests || echo "$test no result" >>/tmp/failures
done
sort -u /tmp/failures >/tmp/failed
while read -r name why; do
  echo "--- $name $why"
  for log in /tmp/log*; do
    sed -n "\\,^$name ,,\\,^overlay/,p" $log | sed "1!{/^overlay\//d}"
  done
  cat /tmp/results*/$name.out.bad /tmp/results*/$name.full /tmp/results*/$name.dmesg 2>/dev/null | tail -n 60 || true
done </tmp/failed
for log in /tmp/log*; do grep -q "^Ran: " $log || tail -n 30 $log; done
dmesg -t | grep -E "WARNING:|BUG:|Oops|refcount_t:|INFO: task|EXT4-fs error" | sort | uniq -c || true
dmesg -t | grep "overlayfs:" | sed "s/([0-9]*)/(N)/" | sort | uniq -c | sed "s/^/  kernel: /" || true
count() { grep "^overlay/[0-9]* $1" /tmp/tests | cut -d " " -f 1 | sort -u | wc -l; }
failed=$(wc -l </tmp/failed)
echo "RESULT $(uname -r) $mode: $# tests, $(count pass) passed, $failed failed, $(count notrun) notrun"
[ $failed = 0 ]
'
exec node "$cli" kernel boot --version "$version" "--$kind" --memory 6G -- \
  unshare -m sh -c "$in_guest" guest "$here" "$mode" "${UNIONMOUNT_TESTSUITE:-}" "$@"
