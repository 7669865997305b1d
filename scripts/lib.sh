# SPDX-License-Identifier: MIT
# shellcheck shell=bash
# What the scripts share. Sourced, with the project's root as working directory.

# One line on what is missing and what to do, exit status 2.
fail() {
  printf 'lowerwatch: %s\n' "$*" >&2
  exit 2
}

note() {
  printf 'lowerwatch: %s\n' "$*" >&2
}

# The command that gives a private mount namespace, in the array `namespace`. Fails with the reason in
# `namespace_reason`. An ordinary user needs a user namespace for it, and then a cgroup namespace to mount cgroup2.
find_namespace() {
  namespace=(unshare --mount --propagation private)
  if [ "$(id -u)" != 0 ]; then
    namespace=(unshare --user --map-root-user --mount --cgroup --propagation private)
  fi
  if ! command -v unshare >/dev/null; then
    namespace_reason='unshare(1) is missing: install util-linux'
    return 1
  fi
  # unshare says why in its last line; mounting shows whether a security module allows it.
  if ! namespace_reason=$("${namespace[@]}" -- sh -c 'mount -t tmpfs none /tmp' 2>&1); then
    namespace_reason="no private mount namespace here (${namespace_reason##*$'\n'}): run as root, or allow user namespaces"
    return 1
  fi
}

# Locks and control sockets of what runs here are kept apart from those of the machine, in a directory that goes
# with the script. Not everybody has /run or XDG_RUNTIME_DIR to write to.
own_runtime_directory() {
  RUNTIME_DIRECTORY=$(mktemp -d)
  export RUNTIME_DIRECTORY
  trap 'rm -rf "$RUNTIME_DIRECTORY"' EXIT
}

# The closing line of a test run, from $LOWERWATCH_TALLY; $1 is 1 when a run broke. Fails when a test did.
say_tally() {
  awk -v status="$1" '
    { passed += $1; failed += $2; skipped += $3 }
    END {
      # A run that broke before it could count is a failure too.
      if (status && !failed) failed = 1
      printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped
      exit failed > 0
    }' "$LOWERWATCH_TALLY"
}
