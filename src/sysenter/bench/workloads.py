# SPDX-License-Identifier: GPL-2.0-or-later
"""What is timed: the workloads of each suite."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sysenter.errors import SysenterError

__all__ = ["SUITES", "Workload", "chosen"]

_MICRO = "/lib/sysenter/micro"


@dataclass(frozen=True)
class Workload:
    """One thing to time, a whole process or several."""

    suite: str
    """calls, dd, programs or switch."""
    name: str
    """What it is called in tables and baselines."""
    command: str
    """For a shell; this is timed."""
    prepare: str = ""
    """For a shell, on the same path, before it; not timed."""
    finish: str = ""
    """For a shell, behind it; not timed."""
    once: str = ""
    """For a shell, once in a guest, before the first round."""
    packages: tuple[str, ...] = ()
    """Debian's packages that it runs; none where the guest's own programs do."""
    seconds: float = 3.0
    """What it takes at the most in a round with all around it, emulated, on a busy host."""

    @property
    def key(self) -> str:
        """suite/name."""
        return f"{self.suite}/{self.name}"


# name -> how many, so that an emulated round is a tenth of a second
_CALLS = {
    "null": 40000,
    "read": 30000,
    "write": 30000,
    "stat": 4000,
    "fstat": 4000,
    "open": 2500,
    "select": 15000,
    "poll": 15000,
    "pipe": 10000,
    "unix": 4000,
    "mmap": 2000,
    "fork": 60,
    "signal": 5000,
}
_BLOCKS = {"1": 30000, "16": 30000, "64": 30000, "512": 20000, "4k": 10000, "64k": 1500}
_REDIS = "/tmp/redis.sock"
_REPOSITORY = (
    "[ -d /tmp/repo ] || { mkdir /tmp/repo && cd /tmp/repo && git init -q && "
    "for n in $(seq 120); do mkdir -p d$((n % 12)); echo $n >d$((n % 12))/f$n; done && git add . && "
    "git -c user.name=a -c user.email=a@b commit -q -m first && for n in $(seq 20); do echo $n >>d1/f1; "
    "git -c user.name=a -c user.email=a@b commit -q -a -m $n; done; }"
)
_NGINX = (
    "mkdir -p /tmp/www /tmp/nginx; echo hello >/tmp/www/index.html; printf 'daemon on; pid /tmp/nginx/pid;\\n"
    "error_log /tmp/nginx/error; events {} http { access_log /tmp/nginx/access; client_body_temp_path /tmp/nginx/b;\\n"
    "proxy_temp_path /tmp/nginx/p; fastcgi_temp_path /tmp/nginx/f; uwsgi_temp_path /tmp/nginx/u;\\n"
    "scgi_temp_path /tmp/nginx/s; server { listen 127.0.0.1:8080; root /tmp/www; } }\\n' >/tmp/nginx/conf"
)
_LINES = "[ -e /tmp/lines ] || seq 4000 >/tmp/lines"


def _programs(*workloads: Workload) -> tuple[Workload, ...]:
    """Big ones: a round takes longer, its start and what is around it most of all."""
    return tuple(replace(workload, seconds=20.0) for workload in workloads)


SUITES: dict[str, tuple[Workload, ...]] = {
    "calls": tuple(Workload("calls", name, f"{_MICRO} {name} {count}") for name, count in _CALLS.items()),
    "dd": tuple(
        Workload("dd", f"bs={block}", f"/gnu/bin/dd if=/dev/zero of=/dev/null bs={block} count={count} status=none")
        for block, count in _BLOCKS.items()
    ),
    "programs": _programs(
        Workload(
            "programs",
            "redis",
            f"redis-benchmark -s {_REDIS} -q -n 1500 -c 4 -t get,set",
            prepare=f"redis-server --port 0 --unixsocket {_REDIS} --save '' --daemonize yes >/dev/null; "
            f"for n in 1 2 3 4 5 6 7 8 9; do redis-cli -s {_REDIS} ping >/dev/null 2>&1 && break; sleep 0.1; done",
            finish=f"redis-cli -s {_REDIS} shutdown nosave",
            packages=("redis-server", "redis-tools"),
        ),
        Workload(
            "programs",
            "nginx",
            "ab -q -n 400 -c 4 http://127.0.0.1:8080/index.html",
            once=_NGINX,
            prepare="nginx -c /tmp/nginx/conf",
            finish="nginx -c /tmp/nginx/conf -s quit; sleep 0.2",
            packages=("nginx-light", "apache2-utils"),
        ),
        Workload(
            "programs",
            "sqlite3",
            "rm -f /tmp/db; { echo 'create table t(a);'; for n in $(seq 150); do echo \"insert into t values($n);\"; "
            "done; } | sqlite3 /tmp/db",
            packages=("sqlite3",),
        ),
        Workload(
            "programs",
            "python3",
            'python3 -c \'import os\nzero = os.open("/dev/zero", 0)\n'
            'for n in range(4000): os.stat("/"); os.read(zero, 1)\'',
            packages=("python3-minimal",),
        ),
        Workload("programs", "git status", "cd /tmp/repo && git status", once=_REPOSITORY, packages=("git",)),
        Workload("programs", "git log", "cd /tmp/repo && git log --stat", once=_REPOSITORY, packages=("git",)),
        Workload("programs", "find", "find /usr/share /usr/lib -name '*.so'", packages=("findutils",)),
        Workload("programs", "tar", "tar cf - /usr/share | cat >/dev/null", packages=("tar",)),
        Workload("programs", "dash", "while read line; do :; done </tmp/lines", once=_LINES, packages=("dash",)),
        Workload(
            "programs", "bash", "bash -c 'while read line; do :; done </tmp/lines'", once=_LINES, packages=("bash",)
        ),
    ),
    "switch": (Workload("switch", "two processes", f"{_MICRO} switch 1500"),),
}


def chosen(names: Sequence[str]) -> tuple[Workload, ...]:
    """The workloads that these words name: suites, or suite/name; calls and dd if none is given."""
    found: list[Workload] = []
    for name in names or ("calls", "dd", "switch"):
        more = SUITES.get(name) or tuple(w for suite in SUITES.values() for w in suite if w.key == name)
        if not more:
            raise SysenterError(
                f"no workload {name!r}", hint=f"one of {', '.join(SUITES)}, or one of theirs, as calls/read"
            )
        found += more
    return tuple(dict.fromkeys(found))
