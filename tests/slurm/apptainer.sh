#!/bin/bash
# As much of `apptainer exec` as a bind is: of the folder $HIDDEN, the command sees only what it was told to bind.
set -eu

[ "$1" = exec ] || exit 64
shift
binds=()
while [[ $1 == -* ]]; do
  case $1 in
    --bind) binds+=("$2") && shift 2 ;;
    --pwd) folder=$2 && shift 2 ;;
    *) exit 64 ;;
  esac
done
image=$1
[ -e "$image" ]
shift

exec unshare --mount --propagation private bash -euc '
  hidden=$1 folder=$2 number=$3
  shift 3
  mount -t tmpfs aside /mnt
  for i in $(seq "$number"); do
    mkdir "/mnt/$i"
    mount --rbind "${!i}" "/mnt/$i"
  done
  mount -t tmpfs hidden "$hidden"
  for i in $(seq "$number"); do
    mkdir -p "${!i}"
    mount --rbind "/mnt/$i" "${!i}"
  done
  umount --lazy /mnt
  shift "$number"
  cd "$folder"
  exec "$@"
' box "$HIDDEN" "$folder" "${#binds[@]}" "${binds[@]}" "$@"
