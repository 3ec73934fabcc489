"""Products are whole or absent, and say where they come from."""

import hashlib
import json
import re
from importlib.metadata import EntryPoint

import pytest

import obsfit
from obsfit.provenance import atomic_write, sha256, source_checksum, stamp, verify_sums, versions


def test_versions_name_what_the_numbers_rest_on():
    found = versions()
    assert found["obsfit"] == obsfit.__version__
    for name in ("python", "numpy", "scipy", "emcee", "astropy", "healpy", "numba"):
        assert re.match(r"\d+\.\d+", found[name])


def test_checksum_is_the_published_example(tmp_path):
    """FIPS 180-4 example: SHA-256 of the three bytes "abc"."""
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_stamp_is_json_and_repeats_itself():
    kinds = {"seed": 3, "configuration": {"model": "toy"}, "data": {"table": "0" * 64}}
    first, second = stamp("fit", format_version=2, **kinds), stamp("fit", format_version=2, **kinds)
    assert json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert (first["obsfit_format"], first["format_version"], first["seed"]) == ("fit", 2, 3)
    assert first["configuration"] == {"model": "toy"}
    assert first["data_sha256"] == {"table": "0" * 64}
    assert first["versions"] == versions()


def test_a_file_appears_only_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "product.txt"
    with atomic_write(path) as partial:
        partial.write_text("half", encoding="utf-8")
        assert partial.name == "product.txt.partial"
        assert not path.exists()
    assert path.read_text(encoding="utf-8") == "half"
    assert not partial.exists()


def test_after_an_error_the_old_file_stands(tmp_path):
    path = tmp_path / "product.txt"
    path.write_text("old", encoding="utf-8")

    def interrupted():
        with atomic_write(path, overwrite=True) as partial:
            partial.write_text("new", encoding="utf-8")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        interrupted()
    assert [file.name for file in tmp_path.iterdir()] == ["product.txt"]
    assert path.read_text(encoding="utf-8") == "old"


def test_an_existing_file_is_refused_before_anything_is_written(tmp_path):
    path = tmp_path / "product.txt"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(FileExistsError, match=r"product\.txt exists; .*--overwrite"), atomic_write(path):
        pytest.fail("the block must not run")
    assert [file.name for file in tmp_path.iterdir()] == ["product.txt"]


def test_a_file_that_another_wrote_meanwhile_is_not_lost(tmp_path):
    path = tmp_path / "product.txt"

    def overtaken():
        with atomic_write(path) as partial:
            partial.write_text("ours", encoding="utf-8")
            path.write_text("theirs", encoding="utf-8")

    with pytest.raises(FileExistsError):
        overtaken()
    assert path.read_text(encoding="utf-8") == "theirs"


def test_overwriting_replaces(tmp_path):
    path = tmp_path / "product.txt"
    path.write_text("old", encoding="utf-8")
    with atomic_write(path, overwrite=True) as partial:
        partial.write_text("new", encoding="utf-8")
    assert path.read_text(encoding="utf-8") == "new"


def test_sums_find_changed_missing_and_unlisted_files(tmp_path):
    for name in ("good.ecsv", "changed.ecsv", "unlisted.ecsv"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    sums = {
        "good.ecsv": hashlib.sha256(b"good.ecsv").hexdigest(),
        "changed.ecsv": hashlib.sha256(b"as it was").hexdigest(),
        "gone.ecsv": "0" * 64,
    }
    lines = "".join(f"{checksum}  {name}\n" for name, checksum in sums.items())
    (tmp_path / "SHA256SUMS").write_text(lines, encoding="utf-8")
    assert verify_sums(tmp_path) == {
        "changed.ecsv": "changed",
        "gone.ecsv": "missing",
        "unlisted.ecsv": "not listed in SHA256SUMS",
    }


def test_the_checksum_of_programs_sees_a_model_in_a_single_file(tmp_path, monkeypatch):
    """As the page on one's own model makes it; a model whose source is gone changes nothing."""
    before = source_checksum()
    own = [EntryPoint("mine", "my_single_file_model:Mine", "obsfit.models")]
    monkeypatch.setattr("obsfit.provenance.entry_points", lambda group: own)
    monkeypatch.syspath_prepend(tmp_path)
    gone = source_checksum()
    assert gone != before  # only the models of this test are registered
    module = tmp_path / "my_single_file_model.py"
    found = []
    for text in ("a = 1\n", "a = 2\n"):
        module.write_text(text)
        found.append(source_checksum())
    (tmp_path / "beside.py").write_text("b = 1\n")
    assert len({gone, *found}) == 3
    assert source_checksum() == found[-1]
