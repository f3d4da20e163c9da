"""What scripts share on the command line: help, types of options, exit statuses, one line for an error."""

import argparse
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from utils import cli
from utils.errors import warn

SCRIPT = """
'''Test what scripts share.

    script.py run --conf 0.5
'''

import sys
from utils import cli
from utils.errors import InputError, RunError, warn


def main(options):
    print("started")
    warn("careful")
    action = options.action
    if action == "input":
        raise InputError("x.data:3: expected a number, got 'x'")
    if action == "run":
        raise RunError("the loss is not finite")
    if action == "bug":
        return {}["nothing"]
    if action == "package":
        import no_such_package.part
    if action == "own module":
        import utils.no_such_module
    if action == "missing file":
        open("no such file ü")
    if action == "system":
        raise OSError(28, "No space left on device")
    if action == "plain system":
        raise OSError("something odd")
    if action == "interrupt":
        raise KeyboardInterrupt
    if action == "exit":
        sys.exit(7)
    if action == "status":
        return 1
    if action == "flood":
        for _ in range(100_000):
            print("a line that is read by nobody")


arguments = cli.parser(__doc__)
arguments.add_argument("action", help="what happens")
arguments.add_argument("--conf", type=cli.fraction, default=0.3, help="score")
arguments.add_argument("--batch-size", type=cli.positive_int, default=32, help="images")
arguments.add_argument("--workers", type=cli.natural_int, default=0, help="processes")
arguments.add_argument("--show", action="store_true", help="open a window")
arguments.add_argument("--json", help="a file")
cli.run(arguments, main)
"""


@pytest.fixture
def run(tmp_path, repo, run_script):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    return lambda *arguments: run_script(script, *arguments, cwd=tmp_path, env={"PYTHONPATH": str(repo)})


HINT = " (this is a bug; --debug shows where)"


@pytest.mark.parametrize(
    ("action", "status", "message"),
    [
        ("ok", 0, None),
        ("status", 1, None),
        ("exit", 7, None),
        ("input", 2, "x.data:3: expected a number, got 'x'"),
        ("run", 1, "the loss is not finite"),
        ("bug", 1, f"KeyError: 'nothing'{HINT}"),
        ("package", 1, "no_such_package is not installed: pip install -r requirements.txt"),
        ("own module", 1, f"ModuleNotFoundError: No module named 'utils.no_such_module'{HINT}"),
        ("missing file", 1, "no such file ü: No such file or directory"),
        ("system", 1, "No space left on device"),
        ("plain system", 1, "something odd"),
        ("interrupt", 130, "interrupted"),
    ],
)
def test_exit_status_and_one_line(run, action, status, message):
    result = run(action)
    assert result.returncode == status
    assert result.stdout == "started\n"
    assert result.stderr == "warning: careful\n" + (f"error: {message}\n" if message else "")


@pytest.mark.parametrize("action", ["input", "run", "bug", "missing file", "interrupt"])
def test_debug_shows_the_traceback_first(run, action):
    result = run(action, "--debug")
    assert "Traceback (most recent call last)" in result.stderr
    assert "in main" in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert last == run(action).stderr.splitlines()[-1].removesuffix(HINT)


def test_a_reader_that_leaves_is_no_failure_of_ours(tmp_path, repo):
    """`script.py flood | head -1` says nothing about the pipe."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, script, "flood"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(repo)},
    ) as process:
        assert process.stdout.readline() == "started\n"
        process.stdout.close()
        assert process.stderr.read() == "warning: careful\n"
        assert process.wait(60) == 1


def test_help_shows_defaults_and_examples(run):
    result = run("--help")
    assert result.returncode == 0
    text = " ".join(result.stdout.split())
    assert "Test what scripts share." in text
    assert "score (default: 0.3)" in text
    assert "images (default: 32)" in text
    assert "processes (default: 0)" in text
    assert "(default: None)" not in text
    assert "(default: False)" not in text
    assert "--debug show the traceback of an error" in text
    assert "\n    script.py run --conf 0.5\n" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: action"),
        (["ok", "--conf", "1.5"], "argument --conf: expected a number from 0 to 1, got '1.5'"),
        (["ok", "--conf", "half"], "argument --conf: expected a number from 0 to 1, got 'half'"),
        (["ok", "--batch-size", "0"], "argument --batch-size: expected a whole number from 1 to 1,000,000, got '0'"),
        (["ok", "--batch-size", "x"], "argument --batch-size: expected a whole number from 1 to 1,000,000, got 'x'"),
        (["ok", "--workers", "1.5"], "argument --workers: expected a whole number from 0 to 4,294,967,295, got '1.5'"),
        (["ok", "--workers", "-1"], "argument --workers: expected a whole number from 0 to 4,294,967,295, got '-1'"),
        (["ok", "--epoch", "3"], "unrecognized arguments: --epoch 3"),
    ],
)
def test_wrong_options_are_told_and_nothing_starts(run, arguments, message):
    result = run(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.endswith(f"error: {message}\n")


# The types of options


@pytest.mark.parametrize("text", ["", "x", "-0.1", "1.01", "nan", "inf", "-inf", "0,5", "50%", "1e9"])
def test_fraction_refuses(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected a number"):
        cli.fraction(text)


@pytest.mark.parametrize(("kind", "least"), [(cli.positive_int, 1), (cli.natural_int, 0)])
@pytest.mark.parametrize("text", ["", "x", "1.0", "1e3", "-1", "-0.5", "nan", "0x10", "1 2"])
def test_whole_numbers_refuse(kind, least, text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected a whole number"):
        kind(text)


@given(st.floats(0, 1))
def test_fraction_reads_what_python_writes(value):
    assert cli.fraction(str(value)) == value


BOUNDS = {
    cli.positive_int: (1, 1_000_000),
    cli.natural_int: (0, 2**32 - 1),
    cli.worker_count: (0, 256),
    cli.thread_count: (1, 256),
}


@given(st.sampled_from([*BOUNDS]), st.integers(-5, 2**70) | st.integers(-5, 2_000))
def test_whole_numbers_have_bounds(kind, value):
    lowest, highest = BOUNDS[kind]
    if lowest <= value <= highest:
        assert kind(str(value)) == value
    else:
        with pytest.raises(argparse.ArgumentTypeError, match=f"from {lowest} to {highest:,}"):
            kind(str(value))


@pytest.mark.parametrize("kind", [*BOUNDS, cli.positive_float])
def test_thousands_of_digits_are_shortened_in_the_message(kind):
    with pytest.raises(argparse.ArgumentTypeError, match="111…'") as raised:
        kind("1" * 5000)
    assert len(str(raised.value)) < 200


def test_warnings_go_to_standard_error(capsys):
    warn("3 label files are missing")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "warning: 3 label files are missing\n")


def test_control_characters_in_messages_are_escaped(capsys):
    warn("names:3: got 'a\x1b[2J'\nfake: line")
    assert capsys.readouterr().err == "warning: names:3: got 'a\\x1b[2J'\\nfake: line\n"
