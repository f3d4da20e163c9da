"""Small data sets for the checker, and its findings."""

from tests.helpers.dataset_files import write_data, write_image
from utils.check.checks import check_dataset
from utils.config import read_config

GOOD = "0 0.5 0.5 0.5 0.5\n1 0.25 0.25 0.25 0.5\n"  # at 96×64: 48×32 and 24×32 pixels


def write_set(folder, key, count, first_seed=0):
    """Write `count` different images with two boxes each, and their list."""
    names = [f"{key}/{index}.png" for index in range(count)]
    for index, name in enumerate(names):
        write_image(folder / name, seed=first_seed + index)
        (folder / name).with_suffix(".txt").write_text(GOOD, encoding="utf-8")
    (folder / f"{key}.txt").write_text("\n".join(names) + "\n", encoding="utf-8")


def write_good_sets(folder):
    """Write two small sets without errors; return their .data file."""
    write_set(folder, "train", 12)
    write_set(folder, "val", 4, first_seed=100)
    return write_data(folder, train="train.txt", val="val.txt")


def check(data):
    return check_dataset(read_config(data), workers=1)


def items(report, kind):
    """Return the items of all findings whose kind has this text."""
    return [item for finding in report.findings if kind in finding.kind for item in finding.items]
