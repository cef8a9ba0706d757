# SPDX-License-Identifier: GPL-2.0-or-later
"""Every function of the kernel traced, those of the module with them, while calls are made and it comes and goes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cases import cases_of
from conftest import AMD64
from shell import WAIT_FOR
from sysenter.lab.guest import Output


# One CPU: each function is patched by way of int3 (docs/evidence.md).
@pytest.mark.parametrize(
    "target", [pytest.param("bookworm-686", marks=pytest.mark.long), *AMD64], indirect=True, scope="session"
)
@pytest.mark.long
@pytest.mark.parametrize("tracer", ["function", "function_graph"])
def test_all_functions_are_traced(in_guest: Callable[..., Output], tracer: str) -> None:
    """The calls themselves: `function_tracer` and `function_graph_tracer` of hazards_patched."""
    output = in_guest(
        f"""
{WAIT_FOR}
mount -t tracefs tracefs /sys/kernel/tracing
call_everything() {{
	SYSENTER_CALLS=all LD_PRELOAD=/lib/sysenter/libsysenter.so /lib/sysenter/callers && echo "right answers"
	/lib/sysenter/hazards_calls registers flags single_step numbers
	[ $(cat /sys/module/sysenter/parameters/calls) -gt 1000 ] && echo "by fast calls"
}}
mkfifo /tmp/fifo
SYSENTER_CALLS=all LD_PRELOAD=/lib/sysenter/libsysenter.so \\
	/gnu/bin/dd if=/tmp/fifo of=/tmp/copy bs=1 count=1 2>/dev/null & sleeper=$!
exec 9<>/tmp/fifo
wait_for 'grep -q pipe_read /proc/$sleeper/wchan'
cd /sys/kernel/tracing
grep -q '\\[sysenter\\]' available_filter_functions && echo "ours too"
echo {tracer} >current_tracer
call_everything
echo x >&9; wait $sleeper; echo "asleep meanwhile $(cat /tmp/copy)"
rmmod sysenter && insmod /sysenter.ko && echo "went and came"
call_everything
[ $(wc -l <trace) -gt 1000 ] && echo traced
echo nop >current_tracer
call_everything
rmmod sysenter && echo went
""",
        timeout=250,
    )
    three = ["right answers", "by fast calls"]
    assert [*output.text] == [
        "ours too",
        *three,
        "asleep meanwhile x",
        "went and came",
        *three,
        "traced",
        *three,
        "went",
    ]
    assert cases_of(output).total() == 12
