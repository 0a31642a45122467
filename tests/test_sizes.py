"""What a reader takes in at once: a folder of source has at most 14 files, a file at most 500 lines."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
FLOORS = ("sdtrt", "engine", "export", "kernels")
SOURCES = {".py", ".cu", ".cuh", ".html"}
MAX_FOLDER, MAX_FILE = 14, 500


def folders() -> dict[str, list[Path]]:
    """Return the files of each folder of source: those of `engine/data` are none."""
    found: dict[str, list[Path]] = {}
    for path in (p for floor in FLOORS for p in sorted((ROOT / floor).rglob("*")) if p.is_file()):
        if not {"__pycache__", "data"} & set(path.relative_to(ROOT).parts) and path.name != ".DS_Store":
            found.setdefault(path.parent.relative_to(ROOT).as_posix(), []).append(path)
    return found


def test_folders() -> None:
    counts = {folder: len(files) for folder, files in folders().items()}
    assert set(FLOORS) <= counts.keys()
    assert {folder: count for folder, count in counts.items() if count > MAX_FOLDER} == {}


def test_files() -> None:
    files = [path for found in folders().values() for path in found if path.suffix in SOURCES]
    lines = {path.relative_to(ROOT).as_posix(): len(path.read_text("utf-8").splitlines()) for path in files}
    assert {name: count for name, count in lines.items() if count > MAX_FILE} == {}
