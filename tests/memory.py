# SPDX-License-Identifier: GPL-2.0-or-later
"""How a test asks a guest for its free memory."""

# A shell function; says KiB. MemFree leaves out what each processor keeps for its next
# allocation, which comes and goes by more than a megabyte: all of /proc/zoneinfo's is counted.
FREE_MEMORY = """
free_memory() {
	echo 3 >/proc/sys/vm/drop_caches; sleep 0.5; echo 3 >/proc/sys/vm/drop_caches
	cat /proc/sys/vm/stat_refresh >/dev/null
	awk '$1 == "pages" && $2 == "free" { n += $3 } $1 == "count:" { n += $2 } END { print 4 * n }' /proc/zoneinfo
}
"""
