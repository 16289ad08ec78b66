#!/bin/sh
# One build step in namespaces of its own: every mount below ends with the step, also after kill -9.
# usage: chamber.sh LOWER OFFERED in|out COMMAND...    in a directory that holds root/ and, with LOWER, merged/ and work/
#   LOWER    overlayfs lower layers relative to the directory ("l0:l1"), or - when root/ itself is the root
#   OFFERED  a directory shown read-only at /run/build, or -
#   in|out   run the command chrooted, or beside the root with its path in $ROOT
set -eu
lower=$1 offered=$2 where=$3
shift 3
PATH=$PATH:/usr/sbin:/sbin
ROOT=$PWD/root
if [ "$lower" != - ]; then
    # No xattr but `opaque`, no index: the upper directory is to be a lower one of any later mount.
    mount -t overlay atoll-build merged \
        -o "lowerdir=$lower,upperdir=root,workdir=work,index=off,metacopy=off,redirect_dir=nofollow,xino=off"
    ROOT=$PWD/merged
fi
mount -t proc -o nosuid,nodev,noexec proc "$ROOT/proc"
mount -t tmpfs -o nosuid,mode=755 tmpfs "$ROOT/dev"
for device in null zero full random urandom tty; do
    : > "$ROOT/dev/$device"
    mount --bind "/dev/$device" "$ROOT/dev/$device"
done
ln -s /proc/self/fd "$ROOT/dev/fd"
mkdir -m 1777 "$ROOT/dev/shm"
mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs "$ROOT/run"
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs "$ROOT/tmp"
if [ "$offered" != - ]; then
    mkdir "$ROOT/run/build"
    mount --bind "$offered" "$ROOT/run/build"
    mount -o remount,bind,ro "$ROOT/run/build"
fi
hostname template
export ROOT
# Not exec: this shell stays as PID 1 and reaps what the command leaves.
if [ "$where" = in ]; then
    env -i HOME=/root LANG=C.UTF-8 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        DEBIAN_FRONTEND=noninteractive PYTHONDONTWRITEBYTECODE=1 chroot "$ROOT" "$@"
else
    printf '#!/bin/sh\nexit 101\n' > "$ROOT/usr/sbin/policy-rc.d"  # packages start no services; scrubbed afterwards
    chmod 755 "$ROOT/usr/sbin/policy-rc.d"
    "$@"
fi
