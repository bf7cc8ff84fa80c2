"""Files appear complete or not at all, and nobody else's file is written over."""

import os
import stat
from pathlib import Path

import pytest

from sibx import _files
from sibx._files import atomic_file, shortened, write_atomically


def test_a_link_that_was_planted_leads_nowhere(tmp_path, monkeypatch):
    """Whoever knew the name of the draft could have another file overwritten."""
    other = tmp_path / "other"
    other.write_bytes(b"theirs")
    monkeypatch.setattr(_files.secrets, "token_hex", lambda _: "known")
    for target in (other, tmp_path / "none"):
        planted = tmp_path / "x.json.known.tmp"
        planted.symlink_to(target)
        with pytest.raises(FileExistsError):
            write_atomically(tmp_path / "x.json", b"ours")
        assert planted.is_symlink()  # it is not ours
        planted.unlink()
    assert other.read_bytes() == b"theirs"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other"]


def test_a_link_in_the_place_of_the_file_is_replaced_not_followed(tmp_path):
    other, link = tmp_path / "other", tmp_path / "x.json"
    other.write_bytes(b"theirs")
    link.symlink_to(other)
    write_atomically(link, b"ours")
    assert (link.read_bytes(), other.read_bytes(), link.is_symlink()) == (b"ours", b"theirs", False)


def test_drafts_have_names_of_their_own_and_the_mode_of_any_file(tmp_path):
    seen = set()
    for mask, mode in ((0o022, 0o644), (0o077, 0o600)):
        before = os.umask(mask)
        try:
            with atomic_file(tmp_path / "x") as file:
                file.write(b"ours")
                (draft,) = tmp_path.glob("x.*.tmp")
        finally:
            os.umask(before)
        seen.add(draft.name)
        assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == mode
    assert len(seen) == 2
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_nothing_is_left_of_a_full_disk(tmp_path, monkeypatch):
    class Full(type(tmp_path)):
        """A path whose files are on a full disk."""

        def open(self, *_, **__):
            super().open("xb").close()
            return Path("/dev/full").open("wb")

    (tmp_path / "x").write_bytes(b"before")
    for content in (b"few bytes", b"many" * 10**5):
        with pytest.raises(OSError, match="No space left"):
            write_atomically(Full(tmp_path / "x"), content)
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
    assert (tmp_path / "x").read_bytes() == b"before"


def test_names_as_long_as_they_may_be(tmp_path):
    name = "é" * 127 + "x"  # 255 bytes
    write_atomically(tmp_path / name, b"ours")
    assert [p.name for p in tmp_path.iterdir()] == [name]
    with pytest.raises(OSError, match="too long"):
        write_atomically(tmp_path / f"{name}x", b"ours")
    assert len(list(tmp_path.iterdir())) == 1
    assert shortened(name, 255) == name
    short = [shortened(f"{name}{end}", 100) for end in "ab"]
    assert all(len(s.encode()) <= 100 and s.startswith("é" * 40) for s in short)
    assert short[0] != short[1]
