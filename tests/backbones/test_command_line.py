"""The command line: one dataclass, one parser, one line for every mistake."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from backbones.errors import InputError
from backbones.running.command_line import (
    CommandOptions,
    Interrupted,
    as_plain_values,
    option,
    parse,
    read_config,
    run_command,
)


@dataclass(frozen=True, kw_only=True)
class Options(CommandOptions):
    """Every kind of option."""

    name: str = option("a", "a name", group="things", choices=("apple", "banana", "a"))
    dynamic: str = option("x", "a listed name", group="things", choices=lambda: ["x", "yellow"])
    count: int | None = option(None, "a number", group="things", otherwise="as many as fit")
    rate: float = option(0.5, "100 % of it", group="things")
    sizes: tuple[int, ...] = option((1, 2), "numbers", group="things")
    fast: bool = option(False, "a switch", group="things")


def parsed(*arguments: str) -> Options:
    return parse(Options, "A command.", ("do it",), arguments)


def test_defaults_and_flags() -> None:
    assert parsed() == Options()
    given = parsed("--name", "banana", "--count", "3", "--rate", "1e-3", "--sizes", "4", "5", "--fast", "--quiet")
    assert given == Options(name="banana", count=3, rate=1e-3, sizes=(4, 5), fast=True, quiet=True)
    assert parsed("--no-fast").fast is False
    assert parsed("--sizes", "4", "--rate", "1", "--sizes", "5", "6").sizes == (4, 5, 6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--nmae", "a"), "unknown option --nmae (did you mean '--name'?)"),
        (("--na", "a"), "unknown option --na"),
        (("--name", "banan"), "no 'banan' (did you mean 'banana'?); one of apple, banana, a"),
        (("--dynamic", "yelow"), "did you mean 'yellow'"),
        (("--count", "three"), "invalid int value"),
        (("stray",), "unknown option stray"),
    ],
)
def test_mistakes_get_one_line_and_status_2(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        parsed(*arguments)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_help_shows_groups_defaults_choices_and_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parsed("--help")
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for part in (
        "things:",
        "output:",
        "(default: 0.5)",
        "(default: as many as fit)",
        "{apple,banana,a}",
        "examples:\n  do it",
        "--no-fast",
        "100 %",
    ):
        assert part in text


def test_a_file_comes_first_and_flags_win(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("name: apple\ncount: 7\nrate: 1e-4\nsizes: [8, 9]\nfast: true\n")
    assert parsed("--config", str(file), "--count", "1") == Options(
        name="apple", count=1, rate=1e-4, sizes=(8, 9), fast=True
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nmae: a", "unknown option 'nmae' (did you mean 'name'?)"),
        ("name: aple", "did you mean 'apple'"),
        ("count: many", "expected int"),
        ("sizes: 3", "expected a list"),
        ("fast: 1", "expected bool"),
        ("- a\n- b", "name: value"),
        ("a: [", "not YAML"),
    ],
)
def test_bad_files_are_refused(text: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(text)
    with pytest.raises(InputError) as error:
        read_config(Options, str(file))
    assert message in str(error.value)


def test_a_missing_file_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        parsed("--config", "absent.yaml")
    assert stop.value.code == 2
    assert "absent.yaml: No such file" in capsys.readouterr().err


def test_options_survive_yaml(tmp_path: Path) -> None:
    import yaml

    options = Options(name="apple", count=2, sizes=(3,))
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(as_plain_values(options)))
    assert Options(**read_config(Options, str(tmp_path / "c.yaml"))) == options
    (tmp_path / "n.yaml").write_text("count: null\nrate: 1\n")
    assert read_config(Options, str(tmp_path / "n.yaml")) == {"count": None, "rate": 1.0}


def _fail(options: Options) -> None:
    errors = {"apple": InputError("a.jpg: broken"), "banana": RuntimeError("odd\nthing"), "a": Interrupted("go on")}
    raise errors[options.name]


def _interrupt(options: Options) -> None:
    raise KeyboardInterrupt


def run(*arguments: str, body: object = _fail) -> int:
    return run_command(Options, body, description="", argv=arguments)  # type: ignore[arg-type]


def test_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(body=lambda options: None) == 0
    assert run("--name", "apple") == 1
    assert capsys.readouterr().err == "error: a.jpg: broken\n"
    assert run("--name", "banana") == 1
    assert capsys.readouterr().err == "error: RuntimeError: odd thing (--debug shows where)\n"
    assert run("--name", "a") == 130
    assert capsys.readouterr().err == "interrupted: go on\n"
    assert run(body=_interrupt) == 130
    assert run(body=f"{__name__}:absent") == 1


def test_debug_shows_the_traceback() -> None:
    with pytest.raises(RuntimeError):
        run("--name", "banana", "--debug")


def test_a_file_that_cannot_be_written_is_named_first(capsys: pytest.CaptureFixture[str]) -> None:
    def body(options: Options) -> None:
        raise PermissionError(13, "Permission denied", "there/a.json")

    assert run(body=body) == 1
    assert capsys.readouterr().err == "error: there/a.json: permission denied (--debug shows where)\n"


def test_an_empty_default_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Empty(CommandOptions):
        model: str = option("", "a file", group="things")

    with pytest.raises(SystemExit):
        parse(Empty, "A command.", (), ("--help",))
    assert "(default: )" not in capsys.readouterr().out
