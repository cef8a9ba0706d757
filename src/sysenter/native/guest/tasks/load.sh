#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The common part of all tasks: sysenter.lab.loading puts it before each.
library=/lib/sysenter/libsysenter.so
parameters=/sys/module/sysenter/parameters

# Each line of standard input, a JSON object, as the value of a key.
under() { # key
	sed "s/^/{\"$1\": /; s/\$/}/"
}

# What single calls take on each path, as the values of a key. If the program was killed, by a call on
# one of the paths for instance, it has not told of all of them: that is no result.
count_calls() { # key
	/lib/sysenter/calls >/tmp/calls || {
		echo "/lib/sysenter/calls ended with status $?"
		exit 6
	}
	under "$1" </tmp/calls
}

# Load the module with $options and for $scope, or end the task with what the kernel had to say.
load_module() {
	echo '<4>sysenter lab: loads the module' >/dev/kmsg # what stands above it is the kernel's own
	# shellcheck disable=SC2086 # several options are several words
	if ! insmod /sysenter.ko ${options-} ${scope:+scope=$scope} 2>/tmp/error; then
		cat /tmp/error
		dmesg | grep sysenter: | tail -n 3
		exit 3
	fi
	# The kernel loads a module all the same, and what is measured is not what was asked for.
	unknown=$(dmesg | sed -n "s/.*sysenter: unknown parameter '\(.*\)' ignored.*/\1/p" | tail -n 1)
	if [ "$unknown" ]; then
		echo "sysenter: refused: it has no parameter $unknown"
		rmmod sysenter
		exit 3
	fi
	echo "{\"loaded\": true, \"fast_table\": $(cat $parameters/fast_table)}"
}

# $scopes: marked, all or both words, those that can work here if it is empty. In 64-bit mode only
# Intel's processors have SYSENTER, by which marked calls come.
choose_scopes() {
	if [ -z "${scopes-}" ]; then
		scopes="marked all"
		if [ "$(uname -m)" = x86_64 ]; then
			grep -q GenuineIntel /proc/cpuinfo || scopes=all
		else # by SYSCALL no unmodified program calls
			grep -qw sep /proc/cpuinfo || scopes=marked
			case " ${options-} " in *" entry=syscall "*) scopes=marked ;; esac
		fi
	fi
	echo "{\"scopes\": \"$scopes\"}"
}
