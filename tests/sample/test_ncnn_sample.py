"""The C++ sample as a user builds and runs it: the boxes are Python's, and bad input ends in one line.

Runs where CMake finds NCNN, for example with CMAKE_PREFIX_PATH=/path/to/ncnn/install. With
CXXFLAGS=-fsanitize=address,undefined and an NCNN built alike, every run here also looks for leaks and wild reads.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.helpers.dataset_files import write_data, write_picture
from tests.helpers.random_detector import save_random_weights
from utils.config import read_config
from utils.dataset.images import list_images, read_image
from utils.detect.run import FrameDetector, Thresholds
from utils.runtimes.loading import load_runtime

pytestmark = pytest.mark.slow

RELEASED = "coco2017-0.241078ap-model.pth"
PICTURES = 20  # of coco-val128
BOX_TOLERANCE, SCORE_TOLERANCE = 1, 0.01  # pixels of the image, 0…1
IMAGES = {"opencv": [], "simpleocv": ["-DWITH_OPENCV=OFF"]}  # who reads pictures, and how to ask CMake for it
PACKAGES = ("ncnn", "nlohmann_json")
NO_PICTURE = {
    "missing.png": None,
    "empty.png": b"",
    "text.png": b"no picture",
    "cut.jpg": b"\xff\xd8\xff\xe0\0\x10JFIF",
}


def run(command, **options):
    result = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, encoding="utf-8", timeout=900, check=False, **options
    )
    # What a sanitizer finds; undefined behaviour only in the sample itself, as NCNN's JPEG writer has some.
    assert "Sanitizer: " not in result.stderr, result.stderr
    assert not re.search(r"sample/ncnn/\S+ runtime error: ", result.stderr), result.stderr
    return result


@pytest.fixture(scope="session")
def build(repo, tmp_path_factory):
    """Build the sample, once for each of IMAGES: the path of the demo. Skips where something for it is missing."""
    demos = {}

    def build(images):
        if images not in demos:
            demos[images] = build_demo(repo / "sample" / "ncnn", tmp_path_factory.mktemp(images), images)
        return demos[images]

    return build


def build_demo(source, folder, images):
    if shutil.which("cmake") is None:
        pytest.skip("CMake is not installed")
    configured = run(["cmake", "-S", source, "-B", folder, *IMAGES[images]])
    output = configured.stdout + configured.stderr
    if "No CMAKE_CXX_COMPILER could be found" in output:
        pytest.skip("there is no C++ compiler")
    for package in PACKAGES:
        if re.search(
            rf'"{package}"\s+with\s+any\s+of|Could not find a configuration file for package "{package}"', output
        ):
            pytest.skip(f"CMake does not find {package}; CMAKE_PREFIX_PATH can say where it is")
    if "The demo needs OpenCV" in output:
        pytest.skip("there is neither OpenCV nor an NCNN with simpleocv")
    assert configured.returncode == 0, output
    if images == "opencv" and "Pictures: OpenCV" not in output:
        pytest.skip("CMake does not find OpenCV")
    built = run(["cmake", "--build", folder, "--parallel", "2"])
    assert built.returncode == 0, built.stdout + built.stderr
    assert "warning:" not in built.stdout + built.stderr
    return folder / "demo"


@pytest.fixture(scope="session", params=list(IMAGES))
def each_demo(request, build):
    """The demo of one way after the other to read pictures."""
    return build(request.param)


@pytest.fixture(scope="session")
def demo(build):
    """The demo, however it reads pictures."""
    for images in IMAGES:
        try:
            return build(images)
        except pytest.skip.Exception as reason:
            skipped = reason
    raise skipped


@pytest.fixture(scope="session")
def export(run_script):
    """Export weights to NCNN as a user does: the path of the .json file."""
    pytest.importorskip("pnnx", reason="pnnx, which exports to NCNN, is not installed")

    def export(data, weights, folder):
        target = folder / "model.onnx"
        result = run_script(
            "pytorch2onnx.py", "--data", data, "--weights", weights, "--output", target, "--ncnn", "fp32"
        )
        assert result.returncode == 0, result.stderr
        return target.with_suffix(".json")

    return export


@pytest.fixture(scope="session")
def small(export, tmp_path_factory):
    """A model of two classes with random weights: (path of its .json file, the FrameDetector that it has to equal)."""
    folder = tmp_path_factory.mktemp("small")
    data, weights = write_data(folder), save_random_weights(folder / "small.pth")
    return export(data, weights, folder), python_detector(data, weights)


def python_detector(data, weights, conf=0.3, iou=0.4):
    config = read_config(data)
    runtime = load_runtime(weights, config, "cpu")
    return FrameDetector(runtime, (config.width, config.height), Thresholds(conf, iou))


@pytest.fixture
def model(small, tmp_path):
    """A copy of the small model to damage: the path of its .json file."""
    for path in small[0].parent.glob("model.*"):
        shutil.copy(path, tmp_path)
    return tmp_path / "model.json"


@pytest.fixture(scope="session")
def picture(tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "picture.png"
    write_picture(path)
    return path


def lines(result):
    """The JSON lines of a run that went well."""
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def assert_fails(result, status, *expected):
    """The run ended with this status and one error line that has all these words."""
    errors = result.stderr.splitlines()
    assert result.returncode == status, result.stderr
    assert errors[-1].startswith("error: ")
    assert [line for line in errors[:-1] if not line.startswith("warning: ")] == []
    assert [word for word in expected if str(word) not in errors[-1]] == [], errors[-1]


def as_array(record):
    """[n, 6] (x1, y1, x2, y2, score, class) of one of the demo's lines."""
    rows = [[*found["box"], found["score"], found["class"]] for found in record["detections"]]
    return np.array(rows, dtype=float).reshape(-1, 6)


def assert_same_detections(found, expected, conf):
    """Every detection has its equal on the other side, but those that a threshold may or may not have kept."""
    for ours, theirs in ((found, expected), (expected, found)):
        for row in ours[ours[:, 4] > conf + SCORE_TOLERANCE]:
            distance = np.abs(theirs - row)
            near = (distance[:, :4] <= BOX_TOLERANCE).all(1) & (distance[:, 4] <= SCORE_TOLERANCE)
            assert (near & (distance[:, 5] == 0)).any(), (row, theirs)


def as_png(paths, folder):
    """Copies of pictures that every decoder reads alike."""
    for path in paths:
        cv2.imwrite(str(folder / f"{path.stem}.png"), read_image(path))
    return folder


def compare(demo, model, detector, folder, output, conf=0.3):
    records = lines(run([demo, model, folder, "--output", output, "--conf", conf]))
    paths = list_images(folder)
    assert [record["file"] for record in records] == list(map(str, paths))
    count = 0
    for record, path in zip(records, paths, strict=True):
        image = read_image(path)
        assert (record["width"], record["height"]) == image.shape[1::-1]
        expected, _ = detector(image)
        assert_same_detections(as_array(record), expected, conf)
        count += len(expected)
        assert cv2.imread(str(output / path.name)).shape == image.shape
    return count


def test_released_weights_find_what_they_find_in_python(each_demo, export, repo, shared, tmp_path):
    weights = shared / "reference" / RELEASED
    model = export(repo / "data" / "coco.data", weights, tmp_path)
    (tmp_path / "png").mkdir()
    folder = as_png(list_images(shared / "coco-val128" / "images")[:PICTURES], tmp_path / "png")
    count = compare(each_demo, model, python_detector(repo / "data" / "coco.data", weights), folder, tmp_path / "out")
    assert count > 2 * PICTURES


def test_random_weights_find_what_they_find_in_python(each_demo, small, repo, tmp_path):
    model, detector = small
    (tmp_path / "png").mkdir()
    folder = as_png(list_images(repo / "img"), tmp_path / "png")
    assert compare(each_demo, model, detector, folder, tmp_path / "out") > 0


@pytest.mark.parametrize("size", [(1, 1), (1, 90), (90, 1), (2, 2), (3000, 7)], ids=str)
def test_pictures_of_any_size(each_demo, small, tmp_path, size):
    (tmp_path / "in").mkdir()
    image = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    cv2.imwrite(str(tmp_path / "in" / "picture.png"), image)
    compare(each_demo, *small, tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1"])
def test_pictures_of_any_kind(each_demo, small, picture, tmp_path, mode):
    (tmp_path / "in").mkdir()
    Image.open(picture).convert(mode).save(tmp_path / "in" / "picture.png")
    compare(each_demo, *small, tmp_path / "in", tmp_path / "out")


def test_a_grey_jpeg_file(each_demo, small, picture, tmp_path):
    Image.open(picture).convert("L").save(tmp_path / "grey.jpg")
    (record,) = lines(run([each_demo, small[0], tmp_path / "grey.jpg", "--output", tmp_path / "out"]))
    assert (record["width"], record["height"]) == (64, 48)
    # Decoders of JPEG differ by a grey level here and there, so nothing is compared.
    assert cv2.imread(str(tmp_path / "out" / "grey.jpg")).shape == (48, 64, 3)


def test_a_picture_is_printed_and_drawn(each_demo, small, picture, tmp_path):
    result = run([each_demo, small[0], picture, "--conf", 0.1], cwd=tmp_path)
    (record,) = lines(result)
    assert list(record) == ["file", "width", "height", "detections"]
    assert record["file"] == str(picture)
    assert list(record["detections"][0]) == ["class", "name", "score", "box"]
    assert record["detections"][0]["name"] in ("cat", "dog")
    scores = [found["score"] for found in record["detections"]]
    assert scores == sorted(scores, reverse=True)
    assert result.stderr == f"{len(scores)} objects in 1 picture, drawn in {Path('result', 'picture.png')}\n"
    drawn = cv2.imread(str(tmp_path / "result" / "picture.png"))
    assert drawn.shape == (48, 64, 3)
    assert (drawn != cv2.imread(str(picture))).any()
    assert os.listdir(tmp_path / "result") == ["picture.png"]


def test_opencv_is_not_mixed_with_simpleocv(build):
    if shutil.which("nm") is None:
        pytest.skip("nm, which lists what is in a program, is not installed")
    symbols = run(["nm", "--demangle", build("opencv")]).stdout
    assert "cv::imdecode(cv::_InputArray" in symbols
    assert "cv::putText(cv::Mat&" not in symbols


def test_the_param_file_may_be_named_instead(demo, small, picture, tmp_path):
    by_json = run([demo, small[0], picture, "--output", tmp_path])
    assert lines(run([demo, small[0].with_suffix(".ncnn.param"), picture, "--output", tmp_path])) == lines(by_json)


def test_threads_change_nothing(demo, small, picture, tmp_path):
    one, two = (lines(run([demo, small[0], picture, "--output", tmp_path, "--threads", n])) for n in (1, 2))
    np.testing.assert_allclose(as_array(one[0]), as_array(two[0]), atol=0.02)


def test_thresholds_of_the_file_and_of_the_command_line(demo, model, picture, tmp_path):
    def found(*options):
        return lines(run([demo, model, picture, "--output", tmp_path / "out", *options]))[0]["detections"]

    everything = found("--conf", 0.0, "--iou=1")
    change(model, lambda content: content.update(conf=0, iou=1, max_det=5))
    best = found()
    # Boxes beyond the picture's edge are among the five, and are dropped after.
    assert 0 < len(best) <= 5
    assert best == everything[: len(best)]
    assert found("--conf", 1) == []


def test_a_folder_with_other_folders_and_files(each_demo, small, tmp_path):
    folder = tmp_path / "in"
    write_picture(folder / "b.png", seed=1)
    write_picture(folder / "a" / "deep" / "A.PNG", seed=2)
    write_picture(folder / "c.jpg", seed=3)
    write_picture(folder / ".hidden.png")
    write_picture(folder / "result" / "old.png")
    (folder / "notes.txt").write_text("no picture", encoding="utf-8")
    (folder / "loop").symlink_to(folder)
    result = run([each_demo, small[0], folder, "--output", folder / "result"])
    names = ["a/deep/A.PNG", "b.png", "c.jpg"]
    assert [record["file"] for record in lines(result)] == [str(folder / name) for name in names]
    assert all((folder / "result" / name).is_file() for name in names)
    assert "in 3 pictures, drawn in" in result.stderr


def test_what_is_no_picture_is_passed_over(each_demo, small, picture, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.copy(picture, folder / "good.png")
    for name, content in NO_PICTURE.items():
        if content is not None:
            (folder / name).write_bytes(content)
    result = run([each_demo, small[0], folder, "--output", tmp_path / "out"])
    assert result.returncode == 1
    assert len(result.stdout.splitlines()) == 1
    *warnings, last = result.stderr.splitlines()
    assert len(warnings) == 3
    assert all(line.startswith("warning: ") and line.endswith("; skipped") for line in warnings)
    assert last.endswith("; 3 could not be read")
    assert os.listdir(tmp_path / "out") == ["good.png"]


@pytest.mark.parametrize("name", NO_PICTURE)
def test_one_picture_that_is_none(each_demo, small, tmp_path, name):
    if NO_PICTURE[name] is not None:
        (tmp_path / name).write_bytes(NO_PICTURE[name])
    result = run([each_demo, small[0], tmp_path / name, "--output", tmp_path / "out"])
    assert_fails(result, 2 if NO_PICTURE[name] is None else 1)
    assert name in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_png_that_is_cut_short(each_demo, small, picture, tmp_path):
    data = picture.read_bytes()
    for length in (8, 20, 33, len(data) // 2, len(data) - 13):
        (tmp_path / "cut.png").write_bytes(data[:length])
        result = run([each_demo, small[0], tmp_path / "cut.png", "--output", tmp_path / "out"])
        # Some decoders take what is there.
        assert result.returncode in (0, 1), result.stderr


def test_bench_says_how_long_each_step_takes(demo, small, picture, tmp_path):
    result = run([demo, small[0], picture, "--output", tmp_path, "--bench", 3])
    assert len(lines(result)) == 1
    table = result.stderr.splitlines()
    assert table[0] == "3 runs, 1 thread"
    assert table[1].split() == ["milliseconds", "min", "median", "max"]
    assert [row.split()[0] for row in table[2:6]] == ["preprocessing", "network", "postprocessing", "together"]
    for row in table[2:6]:
        least, median, most = map(float, row.split()[1:])
        assert 0 <= least <= median <= most


def test_help_names_every_option(demo):
    result = run([demo, "--help"])
    assert result.returncode == 0
    for word in ("--output", "--conf", "--iou", "--threads", "--bench", "default", "example"):
        assert word in result.stdout


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], "usage"),
        (["one"], "usage"),
        (["one", "two", "three"], "usage"),
        (["MODEL", "PICTURE", "--nonsense", "1"], "--nonsense"),
        (["MODEL", "PICTURE", "--conf"], "--conf: expected a value"),
        (["MODEL", "PICTURE", "--conf", "1.5"], "--conf: expected a number from 0 to 1, got '1.5'"),
        (["MODEL", "PICTURE", "--conf", "nan"], "--conf"),
        (["MODEL", "PICTURE", "--iou", "0.4x"], "--iou"),
        (["MODEL", "PICTURE", "--iou="], "--iou"),
        (["MODEL", "PICTURE", "--threads", "0"], "--threads"),
        (["MODEL", "PICTURE", "--threads", "99999999999999999999"], "--threads"),
        (["MODEL", "PICTURE", "--bench", "-1"], "--bench"),
        (["MODEL", "PICTURE", "--output", ""], "--output"),
        (["MODEL", "FOLDER", "--bench", "1"], "--bench: expected a picture"),
        (["MODEL", "PICTURE", "--output", "FOLDER"], "--output: expected another folder"),
        (["MODEL", "EMPTY"], "found none"),
        (["MODEL", "nothing"], "nothing: expected a picture, a folder or the number of a camera"),
        (["missing.json", "PICTURE"], "missing.json: cannot read"),
        (["missing.ncnn.param", "PICTURE"], "missing.json: cannot read"),
        (["PICTURE", "PICTURE"], "expected the .json file"),
        (["FOLDER", "PICTURE"], "expected the .json file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_command_lines(demo, small, picture, tmp_path, options, expected):
    (tmp_path / "empty").mkdir()
    known = {"MODEL": small[0], "PICTURE": picture, "FOLDER": picture.parent, "EMPTY": tmp_path / "empty"}
    assert_fails(run([demo, *(known.get(option, option) for option in options)], cwd=tmp_path), 2, expected)


def test_a_camera_that_is_not_there(each_demo, small):
    # The libraries through which OpenCV looks for cameras leak.
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    assert_fails(run([each_demo, small[0], 97], env=environment), 2, "camera 97")


def test_a_result_that_cannot_be_written(each_demo, small, picture, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert_fails(run([each_demo, small[0], picture, "--output", tmp_path / "file"]), 1, "file", "cannot write")
    (tmp_path / "out" / "picture.png").mkdir(parents=True)
    assert_fails(run([each_demo, small[0], picture, "--output", tmp_path / "out"]), 1, "picture.png", "cannot write")
    assert os.listdir(tmp_path / "out") == ["picture.png"]


def change(model, edit):
    """Rewrite a .json file after `edit` has changed what it holds."""
    content = json.loads(model.read_text(encoding="utf-8"))
    edit(content)
    model.write_text(json.dumps(content), encoding="utf-8")


def setting(*keys, to):
    """An edit that sets content[key][key]… to a value."""

    def edit(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = to

    return edit


def removing(*keys):
    def edit(content):
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return edit


KEYS = ("format", "names", "width", "height", "strides", "anchors", "conf", "iou", "max_det", "input", "outputs")


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        *((removing(key), f"{key}: missing") for key in (*KEYS, "param", "bin")),
        *((setting(key, to=None), f"{key}: expected") for key in (*KEYS, "param", "bin")),
        *((removing("input", key), f"input: {key}: missing") for key in ("name", "channels", "scale", "mean")),
        (setting("format", to=2), "format: expected a whole number from 1 to 1, got 2"),
        (setting("names", to=[]), "names: expected a list"),
        (setting("names", 1, to=7), "names[1]: expected text, got 7"),
        (setting("names", to=["cat"]), "names: expected 2 names"),
        (setting("names", to=["cat", "dog", "cow"]), "names: expected 2 names"),
        (setting("width", to=0), "width: expected a whole number from 1"),
        (setting("width", to=-32), "width"),
        (setting("width", to=96.5), "width"),
        (setting("width", to="96"), 'width: expected a whole number from 1 to 8192, got "96"'),
        (setting("width", to=1e300), "width"),
        (setting("width", to=2**70), "width"),
        (setting("height", to=65), "height: expected a multiple of the stride 16, got 65"),
        (setting("height", to=48), "height: expected a multiple of the stride 32, got 48"),
        (setting("strides", to=[16]), "outputs: expected a list of 1 "),
        (setting("strides", to=[16, 0]), "strides[1]"),
        (setting("strides", to=[32, 16]), "output out0: expected 2x3x"),
        (setting("outputs", to=["out0", "out9"]), "expected the output out9"),
        (setting("outputs", to=["out1", "out0"]), "output out1: expected"),
        (setting("outputs", to=["out0", "in0"]), "output in0: expected"),
        (setting("anchors", to=[[[1, 2]], []]), "anchors[1]: expected a list of anchors, got []"),
        (setting("anchors", 0, 0, to=[10]), "anchors[0][0]: expected a list of 2 numbers"),
        (setting("anchors", 1, 0, 0, to=0), "anchors[1][0][0]: expected a number above 0, got 0"),
        (setting("anchors", 1, 0, 0, to="8"), "anchors[1][0][0]"),
        (setting("anchors", 1, 0, 1, to=1e39), "anchors[1][0][1]"),
        (setting("anchors", 0, to=[[1, 2]]), "names: expected 12 names"),
        (setting("anchors", 0, to=[[1, 2]] * 9), "output out0: expected 4x6x47 values"),
        (setting("conf", to=1.5), "conf: expected a number from 0"),
        (setting("iou", to="0.4"), "iou"),
        (setting("max_det", to=0), "max_det"),
        (setting("input", to=[]), "input: expected an object, got []"),
        (setting("input", "name", to="in9"), "expected the input in9"),
        (setting("input", "channels", to="RGB"), 'input: channels: expected "BGR"'),
        (setting("input", "scale", to=0), "input: scale"),
        (setting("input", "mean", to=[0, 0]), "input: mean: expected a list of 3"),
        (setting("param", to="gone.ncnn.param"), "gone.ncnn.param: cannot read"),
        (setting("bin", to="gone.ncnn.bin"), "gone.ncnn.bin: cannot read"),
        (setting("bin", to="."), "expected a file, got a folder"),
        (setting("bin", to="model.json"), "model.json"),
        (setting("param", to="model.ncnn.bin"), "model.ncnn.bin: expected an NCNN .param file"),
        (setting("param", to="model.json"), "model.json: expected an NCNN .param file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_json_file_that_does_not_fit(demo, model, picture, tmp_path, edit, expected):
    change(model, edit)
    assert_fails(run([demo, model, picture, "--output", tmp_path / "out"]), 2, tmp_path, expected)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b"7", b'{"format": 1', b'{"format": 1e999}', b'"\xff"', b"\0" * 64, b"[" * 9999],
)
def test_a_json_file_that_is_none(demo, model, picture, content):
    model.write_bytes(content)
    assert_fails(run([demo, model, picture]), 2, "model.json", "expected")


def test_a_bin_file_of_another_length(demo, model, picture):
    weights = model.with_suffix(".ncnn.bin")
    data = weights.read_bytes()
    for length in (0, 1, 3, 4, 5, 1000, len(data) // 2, len(data) - 1):
        weights.write_bytes(data[:length])
        assert_fails(run([demo, model, picture]), 2, weights, "is cut short", f"{length} bytes")
    weights.write_bytes(data + b"\0")
    assert_fails(run([demo, model, picture]), 2, weights, f"expected {len(data)} bytes", f"got {len(data) + 1}")


def test_a_param_file_that_is_cut_short(demo, model, picture):
    param = model.with_suffix(".ncnn.param")
    data = param.read_bytes().rstrip()
    last_line = data.rindex(b"\n")
    lengths = [0, 3, 7, 8, 10, 15, *range(16, last_line, 379), *range(last_line - 3, len(data))]
    for length in lengths:
        param.write_bytes(data[:length])
        assert_fails(run([demo, model, picture]), 2, "model.ncnn.param")


def test_a_param_file_that_contradicts_itself(demo, model, picture):
    param = model.with_suffix(".ncnn.param")
    head, *layers = param.read_text(encoding="utf-8").splitlines()[1:]
    layer_count, blob_count = map(int, head.split())

    def fails(text, *expected):
        param.write_text(f"7767517\n{text}\n", encoding="utf-8")
        assert_fails(run([demo, model, picture]), 2, "model.ncnn.param", *expected)

    body = "\n".join(layers)
    fails(f"{layer_count + 1} {blob_count}\n{body}", "layers")
    fails(f"{layer_count} 3\n{body}", "line 2", "blobs")
    fails(f"{layer_count} -3\n{body}", "line 2")
    fails(f"999999999 999999999\n{body}", "line 2")
    fails(f"{layer_count} {blob_count}\n" + body.replace(" in0\n", " elsewhere\n", 1), "line 4")


def test_names_in_any_script(each_demo, model, picture, tmp_path):
    names = ['猫 "\\\n', "x" * 5000]
    change(model, setting("names", to=names))
    (record,) = lines(run([each_demo, model, picture, "--conf", "0.05", "--output", tmp_path / "out"]))
    assert record["detections"]
    assert {found["name"] for found in record["detections"]} <= set(names)
