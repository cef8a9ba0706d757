# Runs dd over each path in rounds: $rounds, $count, $block, $paths are set.
[ -e /lib/sysenter/msr.ko ] && insmod /lib/sysenter/msr.ko
/lib/sysenter/msr | under before
choose_scopes

run_dd() { # path round
	export LC_ALL=C SYSENTER_PATH="$1"
	preload=$library
	case $1 in stock | all) preload="" SYSENTER_PATH=stock ;; esac
	before=$(cat $parameters/calls 2>/dev/null)
	said=$(LD_PRELOAD=$preload /gnu/bin/dd if=/dev/zero of=/dev/null bs="$block" count="$count" 2>&1)
	status=$?
	after=$(cat $parameters/calls 2>/dev/null)
	seconds=$(echo "$said" | sed -n 's/.* copied, \([0-9.e+-]*\) s,.*/\1/p')
	printf '{"dd": {"path": "%s", "round": %s, "seconds": %s, "fast_calls": %s, "status": %s}}\n' \
		"$1" "$2" "${seconds:-null}" $((after - before)) $status
}

# Round -1 warms the caches, the emulator's translations among them.
run_rounds() { # paths
	round=-1
	while [ $round -lt "$rounds" ]; do
		# One path right after the other: what disturbs the host disturbs all.
		for path in "$@"; do
			run_dd "$path" $round
		done
		round=$((round + 1))
	done
}

unload() {
	rmmod sysenter || exit 4
	[ -e /dev/sysenter ] && exit 5
}

# shellcheck disable=SC2086 # several paths are several words
case " $scopes " in
*" marked "*)
	scope=marked; load_module
	count_calls timed
	run_rounds $paths
	unload
	;;
*)
	count_calls timed
	run_rounds int80 stock
	;;
esac
case " $scopes " in *" all "*)
	scope=all; load_module
	count_calls timed_all
	run_rounds all
	unload
	;;
esac
/lib/sysenter/msr | under after
# Without the module the library leaves the program alone.
LD_PRELOAD=$library /gnu/bin/dd if=/dev/zero of=/dev/null bs=1 count=1000 2>/dev/null &&
	echo '{"stock_after_unload": true}'
