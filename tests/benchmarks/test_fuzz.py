"""benchmarks/fuzz.py: files that once failed, a few changed files of each kind, and the failures that it must see."""

import os
import shutil
import signal
import time

import pytest
from tqdm import tqdm

from benchmarks import fuzz
from utils.errors import InputError

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the fuzzer forks")
MODELS = ("json", "param", "bin", "onnx")


@pytest.mark.slow
@pytest.mark.parametrize("kind", fuzz.KINDS)
def test_files_are_accepted_or_refused(kind, tmp_path):
    if kind in MODELS:
        pytest.importorskip("ncnn")
        pytest.importorskip("pnnx")
        pytest.importorskip("onnxruntime")
    shutil.copytree(fuzz.CORPUS, tmp_path / "corpus")
    outcome = fuzz.fuzz(kind, 50, 1, tmp_path / "corpus")
    assert not outcome["failures"]
    assert outcome["accepted"] > 0
    assert outcome["refused"] > 0 or kind == "cache"  # odd caches are rebuilt


def read(path):
    """Fail in the way that the content tells."""
    action = path.read_bytes()[:1]
    if action == b"r":
        raise InputError("refused")
    if action == b"l":
        raise InputError("two\nlines")
    if action == b"b":
        raise KeyError("bug")
    if action == b"k":
        os.kill(os.getpid(), signal.SIGKILL)
    if action == b"h":
        time.sleep(60)
    if action == b"m":
        assert len(b"x" * 2**29) > 0


def test_each_failure_is_seen_and_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(fuzz, "MAX_SECONDS", 1)
    monkeypatch.setattr(fuzz, "MAX_BYTES", 2**28)
    monkeypatch.setitem(fuzz.KINDS, "test", fuzz.Kind("file", lambda folder: [b"valid"], read))
    corpus = tmp_path / "test"
    corpus.mkdir()
    for action in "abhklmrz":
        (corpus / action).write_bytes(action.encode())
    outcome = fuzz.fuzz("test", 0, 0, tmp_path)
    assert (outcome["accepted"], outcome["refused"]) == (2, 1)
    found = {path.read_bytes(): problem for path, problem in outcome["failures"]}
    assert list(found) == [b"b", b"h", b"k", b"l", b"m"]
    for action, problem in {b"b": "KeyError", b"h": "1 s", b"k": "status -9", b"l": "lines", b"m": "memory"}.items():
        assert problem in found[action]


def test_the_time_ends_when_a_file_has_just_been_read(tmp_path, monkeypatch):
    def alarm(seconds):
        if not seconds:
            raise TimeoutError("more than 1 s")

    monkeypatch.setattr(fuzz.signal, "alarm", alarm)
    result, problem = fuzz.read_one(read, tmp_path / "file", b"accepted")
    assert (result, problem.partition(":")[0]) == ("failure", "TimeoutError")


def test_an_error_in_the_child_ends_it(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("the pipe is closed")

    monkeypatch.setattr(fuzz, "_run_child", fail)
    inputs, outcome = fuzz.Inputs([b"valid"], [], 1, 0), {"failures": []}
    with tqdm(disable=True) as bar:
        fuzz._read_in_child(read, tmp_path / "file", inputs, outcome, bar)
    assert [problem for _, problem in outcome["failures"]] == ["the process ended with status 1"]


def test_the_same_seed_changes_the_same_way():
    contents = [b"one line of a file\n", b"another\n"]
    first = fuzz.Inputs(contents, [b"kept"], 50, 3)
    again = fuzz.Inputs(contents, [b"kept"], 50, 3)
    changed = [first.next() for _ in range(51)]
    assert changed == [again.next() for _ in range(51)]
    assert changed[0] == b"kept"
    assert len(set(changed)) > 40
