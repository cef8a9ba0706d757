# SPDX-License-Identifier: GPL-2.0-or-later
# The script half of the single file; head.sh says what it takes. With no argument: finds
# the headers and System.map of this kernel, checks that they belong to it, builds and
# installs the module and the preload library, loads the one and runs dd over the other.
#
# What fails says why in one line and leaves nothing behind.
#
# For dash, bash and the shells of old: no functions of theirs alone, and of
# programs only what a machine with a compiler has.
set -e

self=$0
release=`uname -r`
library=${PREFIX:-/usr/local}/lib/libsysenter.so
modules=${MODULES:-/lib/modules/$release/misc}
proc=${PROC:-/proc}
PATH=$PATH:/sbin:/usr/sbin
umask 022				# the library is for everybody

stop() {
	echo "sysenter: $1" >&2
	exit 1
}

# The files of this file, into the folder $1.
unpack() {
	for name in `sed -n 's,^/\* FILE \([a-zA-Z_.]*\) \*/$,\1,p' "$self"`; do
		sed -n "/^\/\* FILE $name \*\/\$/,/^\/\* END $name \*\/\$/p" "$self" |
			sed -e '1,2d' -e '$d' | sed '$d' >"$1/$name"
	done
}

find_headers() {
	for folder in ${HEADERS:-/lib/modules/$release/build \
		/usr/src/linux-$release /usr/src/linux}; do
		if [ -f "$folder/include/linux/version.h" ] &&
			grep "UTS_RELEASE \"$release\"" "$folder/include/linux/version.h" >/dev/null; then
			headers=$folder
			return 0
		fi
	done
	stop "no configured headers of $release${HEADERS:+ in $HEADERS}: set HEADERS to the folder that has include/linux/version.h"
}

# A map belongs to this kernel if it has the addresses that the kernel itself
# tells of what it exports; with CONFIG_MODVERSIONS names end in _R and a sum.
fits() {
	known=
	for name in sock_register printk register_chrdev schedule; do
		address=`sed -n "s/^\([0-9a-f]*\) $name\(_R[0-9a-z_]*\)*\$/\1/p" "$proc/ksyms" | sed 1q`
		if [ "$address" ]; then
			known=1
			grep "^$address [A-Za-z] $name\$" "$1" >/dev/null || return 1
		fi
	done
	[ "$known" ]
}

find_map() {
	for file in ${SYSTEM_MAP:-/boot/System.map-$release /boot/System.map \
		$headers/System.map /usr/src/linux/System.map /System.map}; do
		if [ -f "$file" ] && fits "$file"; then
			map=$file
			return 0
		fi
	done
	stop "${SYSTEM_MAP:-no System.map} is${SYSTEM_MAP:+ not} of the running kernel (held against $proc/ksyms): set SYSTEM_MAP"
}

build() {
	mkdir "$work/sources"
	grep '^/\* FILE build\.sh \*/$' "$self" >/dev/null 2>&1 ||
		stop "the sources are in the file itself and $self is not it: sh sysenter.c"
	unpack "$work/sources"
	sh "$work/sources/build.sh" "$work/sources" "$headers" "$map" "$1" || exit 1
}

unload() {
	if grep '^sysenter ' "$proc/modules" >/dev/null; then
		rmmod sysenter || return 1
	fi
}

# What the module wrote to the log (no apostrophe: a compiler reads this too).
kernel_said() {
	dmesg 2>/dev/null | sed -n 's/^.*sysenter: //p'
}

need() {
	for tool in "$@"; do
		type "$tool" >/dev/null 2>&1 || stop "$tool is not found in $PATH"
	done
}

as_root() {
	[ "`id -u`" = 0 ] || stop "$1 takes root"
}

# mkdir -p, and what it made is known: the last one made is the first line.
make_folder() {
	[ -d "$1" ] && return 0
	above=${1%/[!/]*}		# (a compiler reads this too: no slash and star)
	if [ "$above" ] && [ "$above" != "$1" ]; then
		make_folder "$above" || return 1
	fi
	mkdir "$1" 2>/dev/null || return 1
	{
		echo "$1"
		cat "$work/made"
	} >"$work/made.new"
	mv "$work/made.new" "$work/made"
}

# Whatever ends this early takes back what was installed.
leave() {
	if [ "$installing" ]; then
		unload || :
		rm -f "$modules/sysenter.o" "$library"
	fi
	if [ "$whole" = "" ] && [ -f "$work/made" ]; then
		while read -r folder; do
			rmdir "$folder" 2>/dev/null || :
		done <"$work/made"
	fi
	rm -rf "$work"
}

its_kernel() {
	case $release in
	2.2.* | 2.4.*) ;;
	*) stop "this is Linux $release: the file is for 2.2 and 2.4" ;;
	esac
}

# The head of the file, its comment signs taken off.
usage() {
	grep '^/\* FILE build\.sh \*/$' "$self" >/dev/null 2>&1 ||
		stop "usage: sh sysenter.c [install|remove|build OUT|help]"
	sed -n -e '1,2d' -e '/^$/q' -e 's/^#[ ]\{0,1\}//p' "$self"
}

# The compiler gets these names among other words, and LD_PRELOAD takes a space or a colon for
# the end of a name.
check_names() {
	case $HEADERS$SYSTEM_MAP$TMPDIR$PREFIX$1 in
	*' '*) stop "a folder with a space in its name: HEADERS, SYSTEM_MAP, TMPDIR, PREFIX and OUT must have none" ;;
	esac
	case $PREFIX in
	*:*) stop "PREFIX=$PREFIX has a colon, at which LD_PRELOAD ends a name: set it to another folder" ;;
	esac
}

case ${1:-install} in
build)
	[ "$2" ] || stop "build OUT: into which folder?"
	check_names "$2"
	headers=$HEADERS map=$SYSTEM_MAP
	[ "$headers" ] && [ "$map" ] || stop "build: set HEADERS and SYSTEM_MAP"
	[ -d "$2" ] || mkdir "$2"
	work=$2
	rm -rf "$work/sources"
	build "$2"
	exit 0
	;;
help | -h | --help)
	usage
	exit 0
	;;
remove)
	its_kernel
	as_root remove
	need rmmod
	[ -r "$proc/modules" ] || stop "$proc/modules is not there: is /proc mounted?"
	unload || stop "the module is in use: end the programs that run with $library first"
	rm -f "$modules/sysenter.o" "$library"
	exit 0
	;;
install) ;;
*) stop "$1: not install, build, remove or help" ;;
esac

its_kernel
as_root install
need insmod rmmod dd
check_names
[ -r "$proc/ksyms" ] || stop "$proc/ksyms is not there: is /proc mounted, has the kernel modules?"
[ -r "$proc/cpuinfo" ] || stop "$proc/cpuinfo is not there: is /proc mounted?"
grep '^flags.* sep' "$proc/cpuinfo" >/dev/null ||
	grep '^flags.* syscall' "$proc/cpuinfo" >/dev/null ||
	stop "this processor has no SYSENTER and no SYSCALL (no sep, no syscall in $proc/cpuinfo)"
find_headers
find_map
echo "Linux $release, headers $headers, map $map"

work=${TMPDIR:-/tmp}/sysenter.$$
(umask 077 && mkdir "$work") || stop "cannot make $work: set TMPDIR"
installing=
whole=
: >"$work/made"
trap leave 0
trap 'exit 1' 1 2 15
build "$work/module"
${CC:-gcc} -O2 -fPIC -shared -o "$work/libsysenter.so" "$work/sources/preload.c" ||
	stop "the preload library does not compile"
${CC:-gcc} -O2 -o "$work/gain" "$work/sources/gain.c" ||
	stop "gain.c does not compile: are the C library's headers installed?"

for folder in "$modules" "${library%/*}"; do
	make_folder "$folder" || stop "cannot make $folder"
done

unload || stop "an older one is loaded and in use: end the programs that run with $library first"
installing=1
cp "$work/module/sysenter.o" "$modules/sysenter.o" || stop "cannot write to $modules"
cp "$work/libsysenter.so" "$library" || stop "cannot write $library"
before=`kernel_said`
if insmod "$modules/sysenter.o" ${WAY:+way=$WAY} ${ENTRY:+entry=$ENTRY}; then
	:
else
	after=`kernel_said`
	[ "$after" != "$before" ] || after="its log (dmesg) says why"
	reason=`echo "$after" | sed '$!d'`
	stop "the kernel did not take the module: $reason"
fi
cat "$proc/sysenter" || stop "the module is loaded and $proc/sysenter is not there"
gained=0
"$work/gain" "$proc/sysenter" "$library" "${ROUNDS:-5}" dd if=/dev/zero of=/dev/null bs=1 "count=${COUNT:-500000}" ||
	gained=$?
case $gained in
0) ;;
3) echo "sysenter: the module is loaded, the library installed; this dd does not use it" >&2 ;;
126) stop "no program can be run in ${TMPDIR:-/tmp}: set TMPDIR to another folder" ;;
*) stop "dd did not run over it: all is taken back" ;;
esac
installing=
whole=1
