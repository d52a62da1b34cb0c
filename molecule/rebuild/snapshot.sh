#!/usr/bin/env bash
# Names, types, modes, owners, times and contents of all that the collection may touch, into the file $1.
set -eu
folders=(/opt/kata /etc/containerd /etc/sysctl.d)
[ ! -e /opt/kataops ] || folders+=(/opt/kataops)
{
  find "${folders[@]}" ! -type d -printf '%p %y %m %U %G %T@ %l\n' | sort
  find "${folders[@]}" -type d -printf '%p %y %m %U %G\n' | sort
  find "${folders[@]}" -type f -exec sha256sum {} + | sort -k 2
} >"$1"
