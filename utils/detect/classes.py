"""Parse the option --classes."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from utils.errors import InputError
from utils.text import list_names


def select_classes(text: str, class_names: Sequence[str]) -> tuple[int, ...]:
    """Return the sorted ids of classes given by ids or names, separated by commas: `0,dog` or `traffic light`.

    A whole number is an id. Case is ignored if no name matches exactly. A name of several classes selects all of
    them.

    Raises:
        InputError: the model has no such class; the message names the nearest ones.
    """
    if text in class_names:  # a name may contain a comma
        return _ids_of(text, class_names)
    selected: set[int] = set()
    for part in (part.strip() for part in text.split(",")):
        try:
            ids = (int(part),)
        except ValueError:
            ids = _ids_of(part, class_names)
        if not ids:
            raise InputError(f"--classes: expected class ids or names, got {part!r}; {_nearest(part, class_names)}")
        if not 0 <= ids[0] < len(class_names):
            raise InputError(f"--classes: expected class ids from 0 to {len(class_names) - 1}, got {part}")
        selected.update(ids)
    return tuple(sorted(selected))


def _ids_of(name: str, class_names: Sequence[str]) -> tuple[int, ...]:
    if name not in class_names:
        name, class_names = name.casefold(), [known.casefold() for known in class_names]
    return tuple(class_id for class_id, known in enumerate(class_names) if known == name)


def _nearest(name: str, class_names: Sequence[str]) -> str:
    by_folded = {known.casefold(): known for known in class_names}
    near = difflib.get_close_matches(name.casefold(), by_folded, n=3)
    if near:
        return f"the nearest names are {', '.join(by_folded[known] for known in near)}"
    return f"the names are {list_names(class_names, shown=10)}"
