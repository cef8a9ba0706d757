#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# replay [OPTION...] FOLDER
#
# Stands in an exported bundle as `replay`: unpacks the bundle in FOLDER into a folder of its
# own, runs the bundle's runner on that with the options given (replay.c), and takes it away.
set -eu

die() {
	echo "replay: $1 ($2)" >&2
	exit 1
}

[ $# -gt 0 ] || die "no folder is named" "./replay . is the bundle beside it"
left=$#
while [ "$left" -gt 1 ]; do # the last argument comes first
	set -- "$@" "$1"
	shift
	left=$((left - 1))
done
folder=$1
shift

own=$(mktemp -d) || die "no folder for temporary files" "TMPDIR names one"
trap 'rm -rf "$own"' EXIT
trap 'exit 130' INT TERM
for name in plan pages runner; do
	gunzip -c "$folder/$name.gz" >"$own/$name" 2>/dev/null ||
		die "$folder is not a bundle, or damaged: $name.gz cannot be unpacked" "export it anew: replay --export DIR"
done
chmod +x "$own/runner"
"$own/runner" "$@" "$own"
