# SPDX-License-Identifier: GPL-2.0-or-later
"""A live patch reaches fast calls, and comes and goes while tasks sleep inside."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from conftest import AMD64
from shell import WAIT_FOR
from sysenter.lab.guest import Output

# 32-bit x86 has no live patching.
pytestmark = pytest.mark.parametrize("target", AMD64, indirect=True, scope="session")


def test_live_patch(in_guest: Callable[..., Output], module_of: Callable[[str], bytes]) -> None:
    """A task is patched where its stack can be trusted: the entry's part of a sleeper's stack must be.

    The kernel asks each second; what it cannot trust it would wake by a signal after 15.
    """
    output = in_guest(
        WAIT_FOR
        + """
fast="env SYSENTER_CALLS=all LD_PRELOAD=/lib/sysenter/libsysenter.so"
ask() {
	for path in "" "$fast"; do
		calls=$(cat /sys/module/sysenter/parameters/calls)
		answer=$($path /lib/sysenter/callers parent)
		calls=$(($(cat /sys/module/sysenter/parameters/calls) - calls))
		[ $calls -gt 0 ] && calls=fast || calls=stock
		[ $answer = 4242 ] && answer=patched || answer=own
		echo "$1 $calls $answer"
	done
}
settled() {
	for tenth in $(seq 60); do
		[ "$(cat /sys/kernel/livepatch/patch/transition 2>/dev/null || echo 0)" = 0 ] && echo "$1 settled" && return
		sleep 0.1
	done
	for task in /proc/[0-9]*; do
		[ "$(cat $task/patch_state)" = "$2" ] || echo "$1: $(cat $task/comm) $(tr '\\n' ' ' <$task/stack)"
	done
}
mkfifo /tmp/wake
before=$(cat /sys/module/sysenter/parameters/calls)
for n in 1 2 3; do $fast /gnu/bin/dd if=/tmp/wake of=/dev/null bs=1 count=1 2>/dev/null & done
exec 9<>/tmp/wake
for job in $(jobs -p); do wait_for 'grep -q pipe_read /proc/$job/wchan' && echo asleep; done
[ $(cat /sys/module/sysenter/parameters/calls) -ge $((before + 3)) ] && echo "by fast calls"
ask before
insmod /patch.ko && settled on 1
ask patched
echo 0 >/sys/kernel/livepatch/patch/enabled; settled off 0
ask after
echo xxx >&9; wait
rmmod patch && echo "patch went"
rmmod sysenter && echo went
""",
        files={"patch.ko": module_of("patch")},
    )
    assert output.text == (
        "asleep",
        "asleep",
        "asleep",
        "by fast calls",
        "before stock own",
        "before fast own",
        "on settled",
        "patched stock patched",
        "patched fast patched",
        "off settled",
        "after stock own",
        "after fast own",
        "patch went",
        "went",
    ), output
