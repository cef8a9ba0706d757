# SPDX-License-Identifier: GPL-2.0-or-later
"""What programs in a guest said of themselves: none of it may be missing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from guests import SOURCES
from sysenter.lab.guest import Output
from sysenter.lab.legacy_guest import LegacyOutput

# What a hostile caller says, by both entries alike, where something that it needs did not come about.
_FAILED = re.compile(
    r"no (end|room|pipe|thread|watch|write|events|registers|core)\b|never asleep|lost child|\blate\b|\bfew\b|handled 0"
    r"|not (on one|without|told|taken|moved|sent|mapped|frozen|here)|nothing received|none here|failed|/[\w.]+: \d+ "
)
# What each case says where it has done what it is there for. Without that, that both entries say the same is no news.
_SAYS = {
    # hazards_calls.c
    "numbers": r"fb: -\d+ exit 0 $",
    "every_number_without_effect": r"^(-?\d+ ){470,}exit 0 $",
    "registers": r"yield: .*exit 0 $",
    "flags": r"^400: .*2008d5: .*uname: .*6 arguments: .*exit 0 $",
    "single_step": r"entering/2T .*none: .*traps \d\d+ exit 0 $",
    "many_single_steps": r"^traps \d{4} exit 0 $",
    "flags_across_sleep": r"flags 202 .*flags 200202 .*exit 0 $",
    "fpu_across_sleep": r"^(3\.141593 ){20}exit 0 $",
    "segments": r"^ldt 0 0 (getuid: .*){14,}exit 0 $",
    "sixth_argument_used": r"^right page [01] -22 exit 0 $",
    "watch_return": r"(stop 5 at (return|vdso)\S* dr6 1 .*){2}exit 0 exit 0 $",
    "watch_sysenter": r"^(stop 5 at entering dr6 1 .*){2}exit 0 exit 0 $",
    "watch_kernel_write": r"^wrote 1000 stop 5 dr6 1 exit 0 exit 0 $",
    "stub_is_read_only": r"^(refused ){10}exit 0 $",
    "stub_is_pinned_and_dropped": r"^64 same signal 7 exit 0 $",
    # hazards_signals.c
    "restarts": r"read 1 handled 1; (.* -4 handled 1; ){6}exit 0 $",
    "fails_with_eintr": r"read -4 handled 1; (.* -4 handled 1; ){6}exit 0 $",
    "stopped_and_continued": r"^((stop 137f ){3}\w+ (0|-110) whole exit \d ){4}exit 0 $",
    "killed_asleep": r"^(signal 9 ){5}exit 0 $",
    "alternate_stack": r"^set 0 (on alternate stack .*){3}pause -4 get 0 0 exit 0 $",
    "sigreturn_changes": r"^4th 5151 kill: [er]ax 6b5 .*exit 0 $",
    "thousand_alarms": r"^wrong 0 made many handled many exit 0 $",
    "forks": r" 19 exit 44 1000 exit 45 exit 0 $",
    "raw_threads": r"^(clone 1 ){20}thread 3e8 exit 0 $",
    "execs": r"^exit 0 -2 -14 exit 0 exit 0 $",
    "uring_plain": r"^setup 0 0:0 0:1 0:2 0:3 0:4 exit 0 $",
    "uring_sqpoll": r"^setup 0 0:0 0:1 0:2 0:3 0:4 exit 0 $",
    "namespaces": r"^unshare 0 uid 65534 pid 1 ppid 0 chroot 0 chdir 0 dev -2 exit 6 exit 0 $",
    "clone3_namespaces": r"^pid 1 uid 0 (\w+ 0 )+pivot_root 0 open -2 1 exit 8 pidfd 1 exit 0 $",
    "many_processes": r"^(exit 0 ){7}$",
    "priorities": r"^fifo 0 (0 ){7}other 0 exit 0 $",
    # hazards_system.c
    "proc_shows_call": r"^9: nr \d fd 1 length 1 at \S+ in (anon_)?pipe_read exit 1 exit 0 $",
    "proc_shows_stack": r"^pipe_read 1 vfs_read 1 exit 1 exit 0 $",
    "other_reads_and_writes_it": r"^7 before 7 1 behindx exit 0 exit 0 $",
    "core_dump": r"^signal 3 core signal 3 [er]ax \w+ .*exit 0 $",
    "stub_goes_under_callers": r"^signal 11 signal 11 (signal 11|exit 0) signal 11 exit 0 $",  # no NX: may be executed
    "stub_goes_under_sleeper": r"^((read 1 exit 3|signal 11) ){4}exit 0 $",
    "ends_with_sleepers": r"^exit 0 exit 7 signal 9 exit 0 $",
    "rdtsc_forbidden": r"^0 wrong 0 signal 11 exit 0 $",
    "io_ports": r"^signal 11 0 0 .*signal 11 .*exit 0 .*signal 11 exit 0 $",
    "rseq_after_migration": r"^registered moves 1 wrong 0 exit 0 $",
    "cpu_timers": r"^(0 expired wrong 0 ){2}exit 0 $",
    # hazards_arch_i386.c
    "fs_taken_away": r"^ldt 0 0 fs 0 gs kept exit 0 $",
    "code_segment_16": r"^ldt 0 1000 exit 0 $",
    "bad_ebp": r"^0/199: signal 11 .*ff800000/511: signal 11 (.*/192: signal 11 ){8}.*/199: signal 11 .*exit 0 $",
    "sixth_argument_unreadable": r"^(\w+/\d+: signal 11 eax fffffff2 ){4}exit 0 $",
    "sixth_argument_faults_in": r": signal 11 eax ffffffea 0 exit 0 $",
    "watch_sixth_argument": r"^stop 5 at vdso\S+ dr6 1 ",
    "watch_mov_ss": r"^stop 5 at .* 1000 exit 0 exit 0 $",
    "sixth_argument_by_userfaultfd": r"^0 0 0 .*: signal 11 eax ffffffea handled 1 exit 0 $",
    "vdso_moves": r"^moved 1000 1000 exit 7 $",
    "vdso_moved_by_thread": r"^moves 500 wrong 0 exit 7 $",
    # hazards_arch_amd64.c
    "protection_keys": r"^(key \d+ 0 (denied -14 kept 1 let 0 ){3}|this processor has none )exit 0 $",
    "rseq_over_the_stub": r"^aborted (some|never) odd 0 exit 0 $",
    "return_addresses": r"^(\w+: signal 11 ){7}exit 0 $",
    "stack_pointers": r"^(\w+: 1000 \w+; ){7}exit 0 $",
    "upper_halves": r"read -9 lseek -9 dup2 1 exit 0 $",
    "gs_base": r"^set 0 ((1000|0) 6a5e 1 ){12}exit 0 $",
    "from_32_bit_code": r"^unharmed exit 0 $",
    "between_32_bit_code": r"^(1000 cs 33 flags (200)?202; ){2}(0 cs 33 flags \w+; ){2}-38 cs 33 flags \w+; exit 0 $",
    "other_abi_between": r"^(1000 1000 0 -38 -9 ){3}exit 0 $",
    "filter_of_other_abi": r"^filter 0 -78 -77 1000 -78 exit 0 $",
    "strict_of_other_abi": r"^exit 5 signal 9 exit 6 signal 9 exit 0 $",
    # hazards_watch.c
    "ptrace_stops": r" 11 exit 0 exit 0 $",
    "ptrace_changes": r"^1000 1000 1234 77 -38 11 exit 0 exit 0 $",
    "ptrace_event_stops": r"^(event \w+: stop 5 at \+1 1111 2222 3333 4444 5555 ed7; signal 9 ){5}exit 0 $",
    "ptrace_sleeper": r"^(attached: stop .* 1 exit 5 ){2}(attached: stop .* 42 exit 5 ){2}exit 0 $",
    "ptrace_sleeper_syscalls": r"^8005: \d -512; 85: \d -38; 85: \d 1; 1 85: .*exit 5 exit 0 $",
    "ptrace_bad_addresses": r"^([is]p \w+: set 0 signal (11|7) ){10,}exit 0 $",  # 7: the flag AC, which QEMU ignores
    "ptrace_single_step": r"entering; (after it 1000; )+entering; (after it -14; )+.*exit 0 exit 0 $",
    "ptrace_sysemu": r"^1000 1001 1002 1003 1004 5 signal 9 exit 0 $",
    "seccomp_kill": r"^before 1000 filter 0 signal 31 $",
    "seccomp_kill_thread": r"^before 1000 filter 0 signal 31 $",
    "seccomp_trap": r"^before 1000 filter 0 SIGSYS 31 code 1 errno 7 .* 1 2 3 4 5 6; after 4321 other 1000 .*exit 0 $",
    "seccomp_errno": r"^before 1000 filter 0 after -99 other 1000 .*exit 0 $",
    "seccomp_trace": r"event 705 message 5 .* 1000 1000 event 705 message 5 .* 555 exit 0 exit 0 $",
    "seccomp_trace_alone": r"^before 1000 filter 0 after -38 other 1000 .*exit 0 $",
    "seccomp_log": r"^before 1000 filter 0 after 1000 other 1000 .*exit 0 $",
    "seccomp_strict": r"^before 1000 signal 9 $",
    "seccomp_strict_allows": r"^exit 3 $",
    "seccomp_user_notify": r"^nr \d+ .* args 1 2 3 4 5 6 -73 1000 exit 0 exit 0 $",
    "seccomp_tsync_asleep": r"^filter 0 slept 1 then -99 exit 0 $",
    "seccomp_tsync_running": r"^filter 0 then -99 exit 0 $",
    "user_dispatch_blocks": r"^(SIGSYS 31 code 2 .* blocked 4321 ){3}SIGSYS 31 code 2 .*exit 0 $",
    "audit": r"4 records rule away 0 off 0 exit 0 $",
    # hazards_patched.c
    "kprobes": r"^exit 1 in 7 out 7 end 1 exit 1 after 0 exit 0 $",
    "uprobe_on_return": r"probed 8 exit 1 exit 0 $|\[vdso\]",  # a call of i386's returns to the vDSO, which is no file
    "uprobe_on_entering": r"probed 1 after 0 exit 0 $",
    "function_tracer": r"^exit 1 leaf 7 end 1 exit 1 after 0 exit 0 $",
    "function_graph_tracer": r"^exit 1 leaf 7 end 1 exit 1 after 0 exit 0 $",
    "tracepoints": r"^exit 0 enter 7 exit 7 mmap2 1 none 1 read's exit 1 after 0 exit 0 $",
    "frozen": r"^mount 0 group 0 frozen ended 0 exit 1 exit 0 $",
    "killed_for_memory": r"^mount 0 group 0 signal 9 exit 0 $",
}


def cases_in(program: str, arch: str) -> list[tuple[str, bool]]:
    """The cases of a program of hostile callers, and whether each needs root."""
    path = SOURCES / f"{program}_{arch}.c" if program == "hazards_arch" else SOURCES / f"{program}.c"
    found = re.findall(r'^\t\{ ".*",\s"(\w+)",\s\w+,\s(\d)', path.read_text(), re.M)
    return [(name, root != "0") for name, root in found]


def assert_each_did_its_part(said: Mapping[str, str], programs: Iterable[str], arch: str) -> None:
    """said: case -> what it said. Each case of the programs ran, and what it is there for came about."""
    cases = {case for program in programs for case, _ in cases_in(program, arch)}
    assert said.keys() == cases, f"did not run: {cases - said.keys()}; no case of these: {said.keys() - cases}"
    idle = [f"{case}: {words}" for case, words in said.items() if not re.search(_SAYS[case], words, re.DOTALL)]
    # the i386 case of a probe that nobody can set says which file there is not
    idle += [f"{case}: {w}" for case, w in said.items() if _FAILED.search(w) and "[vdso]" not in w]
    assert not idle, "what a case is there for did not come about:\n" + "\n".join(idle)


def cases_of(output: Output) -> Counter[str]:
    """How often each case of the hostile callers (tests/native/guest/hazards_*.c) ran. Fails if one differed
    between the entries, or none ran. With SYSENTER_PATH=stock, the first time that a case runs, without the
    module, is what the others are held against, and is not counted."""
    results = [record for record in output.records if "same" in record]
    unmarked = [record for record in output.records if "case" in record and "same" not in record]
    first = {record["case"]: record["stock"] for record in reversed(unmarked)}
    rest = [r for n, r in enumerate(unmarked) if r["case"] in {before["case"] for before in unmarked[:n]}]
    results += [
        {**r, "same": r["stock"] == first[r["case"]], "fast": r["stock"], "stock": first[r["case"]]} for r in rest
    ]
    differ = [record for record in results if not record["same"]]
    assert not differ, "\n".join(f"{r['case']}:\n  fast  {r['fast']}\n  stock {r['stock']}" for r in differ)
    assert results, f"no case ran: {output.text}"
    idle = [f"{record['case']}: {record['stock']}" for record in results if _FAILED.search(record["stock"])]
    assert not idle, "what a case is there for did not come about:\n" + "\n".join(idle)
    return Counter(record["case"] for record in results)


def assert_no_worker_was_wrong(output: LegacyOutput) -> None:
    """Of the storm on 2.2 and 2.4 (native/guest/legacy/storm.c)."""
    workers = output.events("storm")
    assert len(workers) == 12, workers
    assert not [worker for worker in workers if worker["done"] <= 0 or worker["wrong"]], workers
