# SPDX-License-Identifier: MIT
# For suite-*.sh, in the kernel of the tests.

# A root on hostfs cannot be passed in RCU path walk, one on tmpfs can. It has /mnt and what is named as directories of its own.
own_root() {
  root=$(mktemp -d)
  mount -t tmpfs -o mode=755 root "$root"
  for path in /*; do
    if [ -L "$path" ]; then ln -s "$(readlink "$path")" "$root$path"
    elif [ "$path" = /mnt ]; then :
    elif [ -d "$path" ]; then mkdir "$root$path"; mount --rbind "$path" "$root$path"
    fi
  done
  back=$(pwd)
  cd "$root"
  mkdir .old mnt "$@"
  pivot_root . .old
  umount -l /.old
  cd "$back"
}

# The mode of mounts without lower_changes, or "-".
default_mode() {
  parameter=/sys/module/overlay/parameters/lower_changes
  [ "$1" = - ] || echo "$1" >$parameter
  [ ! -e $parameter ] || echo "lower_changes: $(cat $parameter)"
}
