"""Conversion of a .tflite file to C source."""

import re
import shutil
import subprocess

import pytest

from tests.conftest import REPO
from tools.tflite_to_c import c_string
from utils.runtimes.model_info import ModelInfo
from utils.runtimes.tflite_runtime import add_description

NETWORK = bytes(range(256)) * 3


def write_model(path, precision="INT8", names=("mask", "no mask")):
    """A file with a description, whose network is not one."""
    info = ModelInfo(
        path=None,
        model_name="m",
        class_names=names,
        width=160,
        height=96,
        anchors=(((4.12, 7), (7.5, 12.9)), ((20, 31), (66, 92))),
        conf=0.25,
        iou=0.4,
        max_det=300,
        precision=precision,
        weights_sha256="0" * 64,
    )
    path.write_bytes(add_description(NETWORK, info))
    return path


def test_a_program_with_the_files_sees_the_network_and_its_description(tmp_path, run_script):
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        pytest.skip("there is no C compiler")
    model = write_model(tmp_path / "m.tflite", names=('say "hi"??/', "käse"))
    done = run_script("tools/tflite_to_c.py", model, "--output", tmp_path / "fw" / "net")
    assert (done.returncode, done.stderr) == (0, "")
    assert str(tmp_path / "fw" / "net.c") in done.stdout
    (tmp_path / "fw" / "main.c").write_text(
        '#include <stdio.h>\n#include "net.h"\nint main(void) { const yf_model_info* m = &yf_model;\n'
        'printf("%d %d %d %d %g %g %s|%s|", m->width, m->height, m->classes, m->anchor_num, m->conf, m->iou,\n'
        'm->names[0], m->names[1]); for (int i = 0; i < 8; ++i) printf("%g ", m->anchors[i]);\n'
        "fwrite(yf_network, 1, yf_network_size, stdout); return 0; }\n"
    )
    folder = tmp_path / "fw"
    command = [compiler, "-std=c99", "-Wall", "-I", REPO / "sample" / "microcontroller"]
    subprocess.run([*command, folder / "main.c", folder / "net.c", "-o", folder / "run"], check=True)
    output = subprocess.run([folder / "run"], capture_output=True, check=True).stdout
    text = '160 96 2 2 0.25 0.4 say "hi"??/|käse|4.12 7 7.5 12.9 20 31 66 92 '
    assert output == text.encode() + NETWORK


@pytest.mark.parametrize(
    ("text", "literal"), [("mask", '"mask"'), ('a"b', '"a\\042b"'), ("\\", '"\\134"'), ("é1", '"\\303\\2511"')]
)
def test_string_literals(text, literal):
    assert c_string(text) == literal


def test_a_float_model_is_refused(tmp_path, run_script):
    done = run_script("tools/tflite_to_c.py", write_model(tmp_path / "m.tflite", "FP32"), "--output", tmp_path / "net")
    assert done.returncode == 2
    assert re.search(r"m\.tflite: .*int8", done.stderr)
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("net*"))


def test_output_without_a_file_name_is_refused(tmp_path, run_script):
    done = run_script("tools/tflite_to_c.py", write_model(tmp_path / "m.tflite", "INT8"), "--output", ".")
    assert done.returncode == 2
    assert re.search(r"error: --output \.: ", done.stderr)


@pytest.mark.parametrize("content", [None, b"", b"text", NETWORK])
def test_a_file_without_description_is_refused(tmp_path, run_script, content):
    path = tmp_path / "m.tflite"
    if content is not None:
        path.write_bytes(content)
    done = run_script("tools/tflite_to_c.py", path, "--output", tmp_path / "net")
    assert done.returncode == 2
    assert re.search(r"error: .*m\.tflite: ", done.stderr)
