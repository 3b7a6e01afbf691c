import os
import stat
from pathlib import Path

import pytest

from shiftforge.errors import InputError
from shiftforge.files import read_bytes, read_text, replace_directory, write_atomically


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("data", [b"\x00\xff", "π\n"])
def test_write_is_whole_and_leaves_nothing_beside(tmp_path, data):
    path = tmp_path / "a"
    path.write_text("old")
    write_atomically(path, data)
    assert path.read_bytes() == (data.encode() if isinstance(data, str) else data)
    assert names(tmp_path) == ["a"]


def test_permissions_of_new_and_old_files(tmp_path):
    path = tmp_path / "a"
    mask = os.umask(0o027)
    try:
        write_atomically(path, b"")
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o755)
    write_atomically(path, b"x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o755


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    write_atomically(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"


def test_unwritable_places_are_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    for bad, why in [(tmp_path / "no" / "a", "no such file"), (tmp_path / "file" / "a", "not a directory")]:
        with pytest.raises(InputError, match=rf"^output file must be writable, not '{bad}' \({why}"):
            write_atomically(bad, b"x")
    with pytest.raises(InputError, match="is a folder"):
        write_atomically(tmp_path, b"x")
    assert names(tmp_path) == ["file"]


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_text("old")

    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(InputError, match="no space left on device"):
        write_atomically(path, b"new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_reading_says_what_and_why(tmp_path):
    with pytest.raises(InputError, match=rf"^configuration must be a readable file, not '{tmp_path}/x' \(no such file"):
        read_bytes(tmp_path / "x", "configuration")
    (tmp_path / "y").write_bytes(b"ab\xff")
    with pytest.raises(InputError, match=r"^source must be UTF-8 text, not '.*y' \(byte 2 is not\)$"):
        read_text(tmp_path / "y", "source")


class TestReplaceDirectory:
    def fill(self, target: Path, text: str) -> None:
        with replace_directory(target, "marker") as folder:
            (folder / "marker").write_text(text)

    def test_makes_parents_and_replaces_its_own(self, tmp_path):
        target = tmp_path / "p" / "out"
        self.fill(target, "1")
        (target / "stale").write_text("")
        self.fill(target, "2")
        assert names(target) == ["marker"]
        assert (target / "marker").read_text() == "2"
        assert names(target.parent) == ["out"]

    def test_failure_leaves_the_old_one(self, tmp_path):
        target = tmp_path / "out"
        self.fill(target, "1")
        with pytest.raises(ZeroDivisionError), replace_directory(target, "marker") as folder:
            (folder / "marker").write_text("2")
            raise ZeroDivisionError
        assert (target / "marker").read_text() == "1"
        assert names(tmp_path) == ["out"]

    def test_failed_swap_puts_the_old_one_back(self, tmp_path, monkeypatch):
        target = tmp_path / "out"
        self.fill(target, "1")
        rename = Path.rename

        def refuse_new(self: Path, to: Path) -> Path:
            if self.joinpath("marker").read_text() == "2":
                raise OSError(13, "Permission denied")
            return rename(self, to)

        monkeypatch.setattr(Path, "rename", refuse_new)
        with pytest.raises(InputError, match="output folder must be writable"):
            self.fill(target, "2")
        assert (target / "marker").read_text() == "1"
        assert names(tmp_path) == ["out"]

    def test_refuses_the_folder_of_somebody_else(self, tmp_path):
        (tmp_path / "thesis").write_text("")
        with pytest.raises(InputError, match="must be new, empty or written by shiftforge"):
            self.fill(tmp_path, "1")
        assert names(tmp_path) == ["thesis"]

    def test_takes_an_empty_folder(self, tmp_path):
        (tmp_path / "out").mkdir()
        self.fill(tmp_path / "out", "1")
        assert names(tmp_path / "out") == ["marker"]

    def test_refuses_files_and_places_under_files(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match="must be a folder, not the file"):
            self.fill(tmp_path / "file", "1")
        with pytest.raises(InputError, match="output folder must be writable"):
            self.fill(tmp_path / "file" / "out", "1")
        assert names(tmp_path) == ["file"]
