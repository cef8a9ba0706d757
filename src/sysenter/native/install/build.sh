#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# DKMS runs this in the sources' folder: build.sh RELEASE HEADERS. The kernel is installed
# and need not be running.
#
# It never fails, because a package's update would stop half-way. If the module cannot be
# built (no image yet, no compiler, a kernel that is too new), it makes a placeholder: a
# module that no kernel loads, with the reason in it (`modinfo sysenter`, `sysenter status`).
set -u
release=$1 headers=$2 here=$(pwd)

prepare() {
	PYTHONPATH=$here/python PYTHONDONTWRITEBYTECODE=1 python3 -m sysenter.install.prepare "$@"
}

placeholder() { # REASON
	echo "sysenter: no module for $release: $1"
	prepare placeholder "$release" "$here" "$1"
	exit
}

reason=$(prepare headers "$release" "$headers" "$here" 2>&1) ||
	placeholder "$(printf '%s\n' "$reason" | tail -n 1)"
# DKMS unsets CC: the kernel's own compiler where it is there, else gcc
cc=$(sed -n 's/^CONFIG_CC_VERSION_TEXT="\([^ ]*\) .*/\1/p' "$headers/.config" 2>/dev/null)
command -v "${cc:-none}" >/dev/null || cc=gcc
command -v "$cc" >/dev/null || placeholder "no compiler: apt-get install gcc"
if ! make -C "$headers" "M=$here" "CC=$cc" CONFIG_DEBUG_INFO_BTF_MODULES= modules >kbuild.log 2>&1; then
	cat kbuild.log
	why=$(grep -m 1 'No space left on device' kbuild.log || grep -m 1 'error: ' kbuild.log ||
		grep -m 1 -i 'error' kbuild.log)
	placeholder "the kernel's build failed: $why"
fi
cat kbuild.log
objcopy --strip-debug sysenter.ko
exit 0
