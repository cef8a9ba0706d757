# SPDX-License-Identifier: GPL-2.0-or-later
# Builds the module for Linux 2.2 and 2.4. The same script serves the lab, the
# old machine itself and the single file that `./sysenter export` writes.
#
#	sh build.sh SOURCES HEADERS SYSTEM_MAP OUT
#
# HEADERS is the configured tree of the kernel. CC (gcc) and LD (ld) may be set. Only
# sh, sed, grep, the compiler and the linker are used. Leaves OUT/sysenter.o.
set -e

sources=$1 headers=$2 map=$3 out=$4
CC=${CC:-gcc}
LD=${LD:-ld}

fail() {
	echo "sysenter: $1" >&2
	exit 1
}

config=$headers/include/linux/autoconf.h
for file in "$config" "$headers/include/linux/version.h" "$headers/include/asm/unistd.h" "$map"; do
	[ -f "$file" ] || fail "$file is missing: the kernel's configured tree and its System.map are needed"
done
for tool in "$CC -dumpversion" "$LD -v"; do
	$tool >/dev/null 2>&1 || fail "${tool% *} does not run: the compiler and the linker are needed (set CC, LD)"
done
[ -d "$out" ] || mkdir "$out"

flags="-D__KERNEL__ -DMODULE -I$out -I$sources -I$headers/include -O2"
flags="$flags -fno-strict-aliasing -fomit-frame-pointer"

# The questions below take a compiler that always fails for a no.
echo '#include <linux/config.h>' >"$out/try.c"
$CC $flags -c "$out/try.c" -o "$out/try.o" ||
	fail "$CC does not even compile <linux/config.h> of $headers: are compiler and assembler whole?"

# What the kernel was configured for: asked of the preprocessor, since vendors
# choose among several configurations in there.
configured() {
	{
		echo '#include <linux/config.h>'
		echo "#ifdef $1"
		echo 'sysenter is_configured'
		echo '#endif'
	} >"$out/try.c"
	$CC $flags -E "$out/try.c" 2>/dev/null | grep 'sysenter is_configured' >/dev/null
}
smp=
if configured CONFIG_SMP; then
	smp=1
elif grep '^SMP *= *1' "$headers/Makefile" >/dev/null 2>&1; then
	smp=1				# 2.2 before it was an option
fi
if grep ' smp_num_cpus$' "$map" >/dev/null; then
	[ "$smp" ] || fail "$map is of an SMP kernel, $headers is configured without"
elif [ "$smp" ]; then
	fail "$headers is configured for SMP, $map is of a kernel without"
fi
if [ "$smp" ] && grep 'UTS_RELEASE "2\.2\.' "$headers/include/linux/version.h" >/dev/null; then
	flags="$flags -D__SMP__"
fi
if configured CONFIG_MODVERSIONS; then
	flags="$flags -DMODVERSIONS -include $headers/include/linux/modversions.h"
fi

# What this compiler knows, from egcs to those of today.
echo 'int nothing;' >"$out/try.c"
standard=
case `$CC -dumpversion` in
2.* | egcs* | 3.* | 4.*) ;;		# gnu89 unasked, and told so 2.95 forgets //
*) standard="-std=gnu89" ;;
esac
for option in -mpreferred-stack-boundary=2 $standard -ffreestanding -fno-pic -fno-pie -fno-stack-protector \
	-fno-asynchronous-unwind-tables -fcf-protection=none \
	-fno-unit-at-a-time -fno-toplevel-reorder -fno-reorder-functions -fcommon; do
	if $CC $option -Werror -c "$out/try.c" -o "$out/try.o" >/dev/null 2>&1; then
		flags="$flags $option"
	fi
done
rm -f "$out/try.c" "$out/try.o"

# Addresses that no kernel exports, and those of the guard.
: >"$out/addresses.h"
: >"$out/addresses.S"
for name in system_call ret_from_sys_call sys_call_table sock_register \
	bh_mask bh_active task __switch_to set_tss_desc irq_stat swapper_pg_dir cpu_tlbstate default_ldt; do
	address=$(sed -n "s/^\([0-9a-fA-F]*\) [A-Za-z] $name\$/\1/p" "$map" | sed 1q)
	case $address in
	'')
		case $name in
		system_call | ret_from_sys_call | sys_call_table | sock_register)
			fail "$map has no $name" ;;
		esac ;;
	*)
		echo "#define ADDRESS_$name 0x${address}UL" >>"$out/addresses.h"
		echo "	.globl kernel_$name" >>"$out/addresses.S"
		echo "kernel_$name = 0x$address" >>"$out/addresses.S" ;;
	esac
done

# Offsets by way of compiled assembly.
$CC $flags -S "$sources/offsets.c" -o "$out/offsets.s" ||
	fail "offsets.c does not compile: either $CC is too new for these headers (2.95 is right for 2.2, up to 3.4 for 2.4), or this kernel's task_struct is none that the module knows"
sed -n 's/.*->\([A-Z0-9_]*\) [$]*\(-*[0-9]*\).*$/#define \1 \2/p' "$out/offsets.s" >"$out/offsets.h"

compile() {
	$CC "$@" || fail "the module does not compile: $CC says why above"
}
compile $flags -D__ASSEMBLY__ -c "$sources/entry.S" -o "$out/entry.o"
names="main guard cpus gates way_tss way_cruel way_gentle taskgate copy unload proc"
objects=
for name in $names; do
	version=-D__NO_VERSION__		# of the kernel: once, in main.o
	[ $name != main ] || version=
	compile $flags $version -S "$sources/$name.c" -o "$out/$name.raw.s"
	# Kernel headers name .modinfo without flags, the compiler with: newer
	# assemblers want it the same both times. Nor do they take the
	# loadsegment of 2.2, movl from memory to a segment register.
	sed -e 's/^\([ 	]*\.section[ 	]*\.modinfo\)[ 	]*$/\1,"a"/' \
		-e 's/movl\([ 	].*),%[fg]s\)$/mov\1/' "$out/$name.raw.s" >"$out/$name.s"
	compile -c "$out/$name.s" -o "$out/$name.o"
	objects="$objects $out/$name.o"
done
compile -c "$out/addresses.S" -o "$out/addresses.o"
$LD -r -o "$out/sysenter.o" $objects "$out/entry.o" "$out/addresses.o" ||
	fail "the module does not link: $LD says why above"
