"""Folders of products are whole or absent, and replaced only when that is asked for."""

import hashlib
import json

import pytest

from obsfit.errors import ConfigurationError
from obsfit.products import check_folder, write_folder


def text(content):
    return lambda path: path.write_text(content)


def test_a_folder_and_its_manifest(tmp_path):
    manifest = write_folder(tmp_path / "a" / "b", {"one.txt": text("1"), "two.txt": text("2")}, {"kind": "test"},
                            manifest="test.json")  # fmt: skip
    assert sorted(path.name for path in manifest.parent.iterdir()) == ["one.txt", "test.json", "two.txt"]
    told = json.loads(manifest.read_text())
    assert told == {
        "kind": "test",
        "files": {"one.txt": hashlib.sha256(b"1").hexdigest(), "two.txt": hashlib.sha256(b"2").hexdigest()},
    }


def test_a_writer_that_fails_leaves_nothing(tmp_path):
    def fail(path):
        path.write_text("half")
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        write_folder(tmp_path / "a", {"one.txt": text("1"), "two.txt": fail}, {}, manifest="test.json")
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_refused_and_then_replaced_but_for_the_files_of_others(tmp_path):
    folder = tmp_path / "a"
    write_folder(folder, {"one.txt": text("1"), "old.txt": text("old")}, {}, manifest="test.json")
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="not empty"):
        write_folder(folder, {"one.txt": text("2")}, {}, manifest="test.json")
    assert (folder / "one.txt").read_text() == "1"
    write_folder(folder, {"one.txt": text("2")}, {}, manifest="test.json", overwrite=True)
    assert sorted(path.name for path in folder.iterdir()) == ["mine.txt", "one.txt", "test.json"]
    assert (folder / "one.txt").read_text() == "2"


def test_a_manifest_cannot_name_files_elsewhere(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    (tmp_path / "precious.txt").write_text("precious")
    (folder / "test.json").write_text(json.dumps({"files": {"../precious.txt": ""}}))
    write_folder(folder, {"one.txt": text("1")}, {}, manifest="test.json", overwrite=True)
    assert (tmp_path / "precious.txt").read_text() == "precious"


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(ConfigurationError, match="is a file"):
        check_folder(tmp_path / "a", overwrite=True)
