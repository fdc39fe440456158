"""``backbones/analyze.py``: one script, three commands; and the numbers of Table 1 as a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backbones.analyze import main as analyze


def test_each_command_has_its_own_help(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, there, absent in (
        (["--help"], "{complexity,responses,curves}", "--model"),
        (["complexity", "--help"], "--cross-check", "--model"),
        (["responses", "--help"], "--images", "--cross-check"),
        (["--quiet", "curves", "--help"], "--panels", "--model"),
    ):
        with pytest.raises(SystemExit) as stop:
            analyze(arguments)
        assert stop.value.code == 0
        text = capsys.readouterr().out
        assert there in text and "examples:" in text
        assert absent not in text.split("examples:")[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "arguments are required: {complexity,responses,curves}"),
        (["respones"], "did you mean 'responses'"),
        (["curves", "--model", "a"], "unknown option --model"),
    ],
)
def test_mistakes_are_wrong_usage(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        analyze(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_complexity_can_be_written_to_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "complexity.json"
    assert analyze(["complexity", "--arch", "resnet20", "plain20", "--output", str(output)]) == 0
    written = json.loads(output.read_text())
    entry = {"parameters": 269_722, "multiply_adds": 40_551_040, "size": 32}
    assert written["results"] == {"resnet20": entry, "plain20": entry}
    assert analyze(["complexity", "--arch", "resnet20", "--size", "-1"]) == 1
    assert "--size must be positive" in capsys.readouterr().err
