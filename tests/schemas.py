# SPDX-License-Identifier: GPL-2.0-or-later
"""What --json writes, held against docs/reference/schemas/.

The schemas let keys be added, as docs/json.md promises to those who read them. Here none may
be: a key that a command writes is in its schema.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import fastjsonschema

ROOT = Path(__file__).resolve().parent.parent
SCHEMAS = ROOT / "docs/reference/schemas"


def _closed(schema: Any) -> Any:
    """The same, with no other keys than those it names."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed


@cache
def _validate(name: str) -> Any:
    return fastjsonschema.compile(_closed(json.loads((SCHEMAS / f"{name}.json").read_text())))


def hold(name: str, said: Any) -> None:
    """Raises fastjsonschema.JsonSchemaException, which names the key, if `said` is not as the schema says."""
    _validate(name)(said)
