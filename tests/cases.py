# SPDX-License-Identifier: GPL-2.0-or-later
"""What programs in a guest said of themselves: none of it may be missing."""

from __future__ import annotations

from collections import Counter

from sysenter.lab.guest import Output
from sysenter.lab.legacy_guest import LegacyOutput


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
    return Counter(record["case"] for record in results)


def assert_no_worker_was_wrong(output: LegacyOutput) -> None:
    """Of the storm on 2.2 and 2.4 (native/guest/legacy/storm.c)."""
    workers = output.events("storm")
    assert len(workers) == 12, workers
    assert not [worker for worker in workers if worker["done"] <= 0 or worker["wrong"]], workers
