# SPDX-License-Identifier: GPL-2.0-or-later
"""docs/reference/ says what the code does: no command, variable, status or parameter is missing or made up."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest

import architecture
import schemas
from conftest import ROOT, RunCli
from sysenter import manual, processes
from sysenter.options import parser

REFERENCE = ROOT / "docs/reference"
NATIVE = ROOT / "src/sysenter/native"


def _rows(page: str) -> Iterator[str]:
    """The first cell of each row of a page's tables, without their heads."""
    for match in re.finditer(r"^\|---.*\n((?:\|.*\n)+)", page, re.M):
        for row in match[1].splitlines():
            yield row.split("|")[1]


def _in_backquotes(cells: Iterator[str]) -> set[str]:
    return {name for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def test_the_page_of_commands_is_the_parsers() -> None:
    page = (REFERENCE / "commands.md").read_text()
    written = manual.reference_page(parser()) + "\n"
    assert page == written, "run: ./sysenter manual --markdown > docs/reference/commands.md"


# What scripts type. Commands and options may be added; none that is here may go, or become another.
_TYPED = """
run --kernel --offline --accelerator --cpu --append --qemu --emulator --scope --json --rounds --count --module-option --dry-run
replay --kernel --offline --scope --cpu --append --module-option --calls --processes --json --against --export --from --pieces --trace
kernels
doctor
build --kernel --offline
export --output
check --kernel --offline --mutants --seed --json --object --offsets
shell --kernel --offline --accelerator --cpu --append --qemu --emulator --scope
selftests --kernel --offline --accelerator --cpu --append --qemu --emulator --scope --suite --json
mitigations --kernel --offline --accelerator --cpu --append --qemu --scope --json
exec --kernel --offline --accelerator --cpu --append --qemu --emulator --scope --timeout
report --output
completion
manual --markdown
install --offline --all-kernels --try --at-boot --scope --dry-run
status --json
uninstall --wait
bench --kernel --offline --accelerator --cpu --append --qemu --scope --rounds --module-option --json --save --against --tolerance --here --resume --anyway
matrix --kernel --cpu --scope --job --append --module-option --rounds --count --accelerator --offline --json --support --done --again --cores --scheduler --worker
"""  # noqa: E501


def test_no_command_and_no_option_goes() -> None:
    commands = next(action for action in parser()._actions if action.dest == "name").choices
    assert isinstance(commands, dict)
    for line in _TYPED.strip().splitlines():
        name, *options = [*line.split(), "--debug", "--no-install"]
        known = {word for action in commands[name]._actions for word in action.option_strings}
        assert not set(options) - known, name


def _texts(*patterns: str) -> Iterator[str]:
    for pattern in patterns:
        yield from (path.read_text(errors="replace") for path in sorted(ROOT.glob(pattern)) if path.is_file())


def test_the_page_of_the_environment_has_each_variable_that_is_read() -> None:
    read: set[str] = set()
    for text in _texts("src/sysenter/**/*.py", "tests/**/*.py"):
        read |= set(re.findall(r"environ(?:\.get\(|\[)\s*\"([A-Z]\w+)\"", text))
        read |= set(re.findall(r"getenv\(\"([A-Z]\w+)\"", text))
    for text in _texts("src/sysenter/native/user/*.c", "sysenter", "src/sysenter/native/install/sysenter-run"):
        for one, other in re.findall(r"getenv\(\"([A-Z]\w+)\"|\$\{(SYSENTER_[A-Z_]+|LD_PRELOAD)", text):
            read.add(one or other)
    for name in ("install.sh", "build.sh"):
        read |= set(re.findall(r"\$\{?([A-Z]{2}[A-Z_]*)\b", (NATIVE / "legacy" / name).read_text()))
    named = _in_backquotes(_rows((REFERENCE / "environment.md").read_text()))
    assert "SYSENTER_PATIENCE" in read
    assert "SYSTEM_MAP" in read
    assert named == read


def test_the_manual_pages_variables_are_on_the_page_of_the_environment() -> None:
    page = (REFERENCE / "environment.md").read_text()
    assert {name for name, _ in manual._ENVIRONMENT} <= _in_backquotes(_rows(page))
    for name in processes.PASSED_ON:
        assert f"`{name}`" in page


def test_the_page_of_exit_statuses_has_each_that_a_command_returns() -> None:
    page = (REFERENCE / "exit-statuses.md").read_text()
    listed = {int(cell) for cell in _rows(page) if cell.strip().isdigit()}
    assert listed == {int(number) for number, _ in manual._EXIT}
    returned = {128 + number for number in (*processes._SIGNALS, 13)} | {2}  # 13: SIGPIPE; 2: argparse's
    for name in ("cli.py", "ending.py"):
        text = (ROOT / "src/sysenter" / name).read_text()
        for line in re.findall(r"^\s+(?:return|sys\.exit\() ?(.*)$", text, re.M):
            returned |= {int(n) for n in re.findall(r"(?:^|else )(\d+)\b(?! \+)", line)}
    assert returned == listed
    commands = {name for name in _in_backquotes(_rows(page)) if re.fullmatch(r"[a-z]+", name)}
    known = set(next(a for a in parser()._actions if a.dest == "name").choices or ()) | {"test"}
    assert commands <= known


def _parameters(folder: Path) -> set[str]:
    found: set[str] = set()
    for path in folder.glob("*.c"):
        found |= set(re.findall(r"^\s*(?:module_param(?:_named|_cb)?|MODULE_PARM)\((\w+),", path.read_text(), re.M))
    return found


def test_the_page_of_the_module_has_each_parameter() -> None:
    page = (REFERENCE / "module.md").read_text()
    present, legacy = page.split("\n## sysenter.o")
    parameters = _parameters(NATIVE / "present")
    assert {"scope", "entry", "unsafe", "calls"} <= parameters
    named = {name for name in _in_backquotes(_rows(present)) if re.fullmatch(r"\w+", name)}
    assert named == parameters - {"fail_at"}  # only where faults are injected: named below the tables
    assert "`fail_at`" in present
    assert _in_backquotes(_rows(legacy)) == _parameters(NATIVE / "legacy")


def test_kernel_toml_has_each_key() -> None:
    from sysenter.kernels.description import _KEYS

    page = (ROOT / "docs/kernel.toml.md").read_text()
    rows = dict(re.findall(r"^\| `([\w-]+)` \| ([^|]*?) \|", page, re.M))
    assert list(rows) == list(_KEYS)
    for key, (_, required) in _KEYS.items():
        assert ("optional" in rows[key]) is not required, key


def test_measured_files_are_as_the_schema_says() -> None:
    files = sorted((ROOT / "docs/measured").glob("*.json"))
    assert files
    for path in files:
        said = json.loads(path.read_text())
        schemas.hold(said.get("kind", "replay"), said)


@pytest.mark.parametrize("path", sorted(ROOT.glob("tests/report/results/*.json")), ids=lambda path: path.stem)
def test_what_commands_wrote_once_is_still_as_the_schemas_say(path: Path) -> None:
    """Keys may be added, not changed: a script that reads this file reads what is written today."""
    schemas.hold(path.stem, json.loads(path.read_text()))


def test_status_is_as_the_schema_says(cli: RunCli) -> None:
    schemas.hold("status", json.loads(cli("status", "--json", "-").stdout))


def _keys(schema: Any) -> set[str]:
    """The keys of the objects that a schema describes, at any depth."""
    if isinstance(schema, list):
        return {key for each in schema for key in _keys(each)}
    if not isinstance(schema, dict):
        return set()
    named = schema.get("properties", {})
    return set(named) | {key for each in (*named.values(), *schema.values()) for key in _keys(each)} - {"properties"}


@pytest.mark.parametrize("path", sorted(schemas.SCHEMAS.glob("*.json")), ids=lambda path: path.stem)
def test_the_page_of_json_names_each_key_of_a_schema(path: Path) -> None:
    page = (ROOT / "docs/json.md").read_text()
    sections = {part.split("\n")[0]: part for part in page.split("\n## ")}
    section = next(part for part in sections.values() if f"schemas/{path.name})" in part)
    if path.stem in ("run", "pieces"):  # "in the form of replay --json", "as above"
        section += sections["replay --json"]
    for key in _keys(json.loads(path.read_text())):
        assert f"`{key}`" in section, f"{path.stem}: {key}"


def test_a_key_that_no_schema_has_is_found() -> None:
    said = json.loads((ROOT / "docs/measured/bookworm-686.json").read_text())
    with pytest.raises(fastjsonschema.JsonSchemaException, match="more"):
        schemas.hold("replay", said | {"more": 1})


def test_the_picture_of_the_rooms_is_the_codes() -> None:
    assert architecture.PICTURE.read_text() == architecture.picture(), "run: python tests/architecture.py"


def test_rooms_that_import_each_other_are_found() -> None:
    with pytest.raises(ValueError, match="circle"):
        architecture.levels({"build": {"lab"}, "lab": {"build"}})
