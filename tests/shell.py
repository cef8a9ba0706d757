# SPDX-License-Identifier: GPL-2.0-or-later
"""Shell functions for tasks in a guest."""

# Says KiB. MemFree leaves out what each processor keeps for its next
# allocation, which comes and goes by more than a megabyte: all of /proc/zoneinfo's is counted.
FREE_MEMORY = """
free_memory() {
	echo 3 >/proc/sys/vm/drop_caches; sleep 0.5; echo 3 >/proc/sys/vm/drop_caches
	cat /proc/sys/vm/stat_refresh >/dev/null
	awk '$1 == "pages" && $2 == "free" { n += $3 } $1 == "count:" { n += $2 } END { print 4 * n }' /proc/zoneinfo
}
"""

# As long as there is the file /tmp/go: a program that checks every answer it gets, on the fast path.
# $1: what starts it.
LOAD = """
load() {
	while [ -e /tmp/go ]; do
		SYSENTER_CALLS=all LD_PRELOAD=/lib/sysenter/libsysenter.so $1 /lib/sysenter/callers || echo "callers: $?"
	done
}
"""

# wait_for CONDITION: runs these words until they succeed, for half a minute or more, and says so if they never do. A
# fixed sleep may be too short on a busy host. asleep PID...: succeeds if each of these sleeps.
WAIT_FOR = """
wait_for() {
	for tenth in $(seq 300); do eval "$1" 2>/dev/null && return; sleep 0.1; done
	echo "waited in vain for: $1"; return 1
}
asleep() {
	local task
	for task in $*; do grep -q '^State:.S' /proc/$task/status || return; done
}
"""


def load_module(scope: str, before: str = "") -> str:
    """Load it. With scope=all programs are unmodified (SYSENTER_PATH), and `before` runs without the module too:
    see cases_of()."""
    if scope != "all":
        return f"insmod /sysenter.ko scope={scope} || exit 99\n"
    # i386's registers have addresses in them
    alike = "export SYSENTER_PATH=stock; echo 0 >/proc/sys/kernel/randomize_va_space\n"
    return f"{alike}{before}\ninsmod /sysenter.ko scope=all || exit 99\n"


# As long as there is the file /tmp/go, processors 1 to 3 are switched off and on.
HOTPLUG = """
hotplug() {
	while [ -e /tmp/go ]; do
		for cpu in 1 2 3; do echo 0 >/sys/devices/system/cpu/cpu$cpu/online; sleep 0.05; done
		for cpu in 3 1 2; do echo 1 >/sys/devices/system/cpu/cpu$cpu/online; done
		echo x >>/tmp/turns
	done
}
"""
