"""--data with a folder, data.yaml or obj.data: imported once, in place."""

import shlex
import shutil
from pathlib import Path

import pytest

from tests.helpers import yolo_exports as exports
from utils.convert.importer import import_dataset, import_once
from utils.convert.options import ImportOptions
from utils.errors import InputError

pytestmark = pytest.mark.slow

IMAGES = [
    ("train", "a", [(0, 0.5, 0.5, 0.25, 0.25)]),
    ("train", "b", []),
    ("val", "c", [(1, 0.25, 0.25, 0.125, 0.125)]),
]
NAMES = ("cat", "dog")


@pytest.fixture(autouse=True)
def working_directory(tmp_path, monkeypatch):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture(
    params=[exports.roboflow, exports.ultralytics, exports.cvat, exports.labelimg], ids=lambda w: w.__name__
)
def source(request, tmp_path):
    return request.param(tmp_path / "my photos", IMAGES, NAMES)


def state(folder):
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def test_the_source_is_unchanged_and_imported_once(source, tmp_path, capsys):
    photos = tmp_path / "my photos"
    before = state(photos)
    data = import_once(source)
    assert data.as_posix() == "data/my-photos/my-photos.data"
    assert state(photos) == before
    assert not (data.parent / "images").exists()  # the lists name the images where they are
    written = state(tmp_path / "work")
    capsys.readouterr()
    assert import_once(source) == data
    assert str(source) in capsys.readouterr().out
    assert import_once(photos) == data
    assert state(tmp_path / "work") == written


def test_another_source_of_this_name_is_refused(source, tmp_path):
    data = import_once(source)
    other = shutil.copytree(tmp_path / "my photos", tmp_path / "elsewhere" / "my photos")
    with pytest.raises(InputError, match=rf"^--data .*elsewhere.*: {data} .*tools/import_dataset\.py"):
        import_once(other)


def test_a_hand_written_data_file_is_not_replaced(source, tmp_path):
    data = tmp_path / "work/data/my-photos/my-photos.data"
    data.parent.mkdir(parents=True)
    data.write_text("[name]\nmodel_name=mine\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"^--data .*: data/my-photos/my-photos\.data "):
        import_once(source)
    assert data.read_text(encoding="utf-8") == "[name]\nmodel_name=mine\n"


def test_a_zip_file_is_refused_with_the_command_that_imports_it(source, run_script, tmp_path):
    path = Path(shutil.make_archive(tmp_path / "my export", "zip", tmp_path / "my photos"))
    result = run_script("tools/check_dataset.py", "--data", path, cwd=tmp_path / "work")
    assert result.returncode == 2
    assert f"tools/import_dataset.py {shlex.quote(str(path))} --output " in result.stderr
    assert not (tmp_path / "work/data").exists()


def test_the_folder_of_an_import(source, tmp_path):
    data = import_once(source)
    assert import_once(data.parent) == data


def test_photos_in_the_folder_of_imports(tmp_path):
    photos = exports.labelimg(tmp_path / "work/data/mine", IMAGES, NAMES)
    assert import_once(photos).as_posix() == "data/mine-imported/mine-imported.data"


def test_a_long_folder_name(tmp_path):
    data = import_once(exports.labelimg(tmp_path / ("x" * 200), IMAGES, NAMES))
    assert data.exists()
    assert import_once(tmp_path / ("x" * 200)) == data


def test_several_processes_do_not_import(source, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"^--data .*: .*tools/import_dataset\.py"):
        import_once(source)


def test_scripts_take_the_source(source, run_script, tmp_path):
    result = run_script("genanchors.py", "--data", source, "--num_clusters", 1, cwd=tmp_path / "work")
    assert "wrote data/my-photos/my-photos.data" in result.stdout
    result = run_script("tools/check_dataset.py", "--data", source, cwd=tmp_path / "work")
    assert "my-photos-train.txt" in result.stdout


@pytest.mark.parametrize("existed", [False, True])
def test_a_failed_copy_leaves_no_images(existed, tmp_path, monkeypatch):
    source = exports.ultralytics(tmp_path / "photos", IMAGES, NAMES)
    output = tmp_path / "out"
    if existed:
        output.mkdir()
    copies = []

    def copy(image, target):
        copies.append(target)
        if len(copies) == 2:
            raise OSError(28, "No space left on device")
        target.write_bytes(image.read_bytes())

    monkeypatch.setattr(shutil, "copyfile", copy)
    with pytest.raises(InputError, match="No space left on device"):
        import_dataset(ImportOptions(source=source, output=output, place="copy"))
    assert len(copies) == 2
    assert output.exists() == existed
    assert not list(output.rglob("*"))


def test_images_that_were_added_after_the_import_are_noticed(tmp_path, capsys):
    source = exports.ultralytics(tmp_path / "photos", IMAGES, NAMES)
    data = import_once(source)
    capsys.readouterr()
    assert import_once(source) == data
    assert capsys.readouterr().err == ""
    shutil.copy(tmp_path / "photos/images/train/a.png", tmp_path / "photos/images/train/new.png")
    assert import_once(source) == data
    assert f"warning: {tmp_path / 'photos/images/train'}: " in capsys.readouterr().err
