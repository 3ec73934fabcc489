"""Downloads against a server on this machine; nothing outside is reached."""

import hashlib
import logging
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from obsfit.errors import ConfigurationError, DataFormatError, ObsfitError
from obsfit.ingest.fetch import Remote, download, fetch, fetchable

pytest.importorskip("pooch")
CONTENT = b"ell,c_ell\n1,1e-8\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def served(tmp_path):
    """A folder, and the address under which it is served."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "cl.csv").write_bytes(CONTENT)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_address[1]}/cl.csv"
    server.shutdown()
    server.server_close()
    thread.join()


def everything(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_known_checksum_is_verified(served, tmp_path):
    _, url = served
    (file,) = download(Remote("test", url, "cl.csv", SHA256, ""), folder=tmp_path / "cache")
    assert file.path.read_bytes() == CONTENT
    assert (file.sha256, file.checksum) == (SHA256, "verified")
    assert everything(tmp_path / "cache") == ["cl.csv"]


def test_a_wrong_checksum_leaves_nothing_behind(served, tmp_path):
    _, url = served
    with pytest.raises(DataFormatError, match="does not have the checksum"):
        download(Remote("test", url, "cl.csv", "0" * 64, ""), folder=tmp_path / "cache")
    assert everything(tmp_path / "cache") == []


def test_the_first_download_records_its_checksum_and_says_so(served, tmp_path, caplog):
    folder, url = served
    remote = Remote("test", url, "cl.csv", "", "")
    with caplog.at_level(logging.WARNING, logger="obsfit"):
        (file,) = download(remote, folder=tmp_path / "cache")
    assert file.checksum == "recorded"
    assert SHA256 in caplog.text
    assert (tmp_path / "cache" / "test" / "cl.csv.sha256").read_text() == f"{SHA256}  cl.csv\n"
    # From the cache, without the server; and then a release that was changed is noticed.
    (folder / "cl.csv").write_bytes(CONTENT + b"2,1e-8\n")
    assert download(remote, folder=tmp_path / "cache")[0].checksum == "verified"
    file.path.unlink()
    with pytest.raises(DataFormatError, match="does not have the checksum"):
        download(remote, folder=tmp_path / "cache")
    assert everything(tmp_path / "cache") == ["cl.csv.sha256"]


def test_a_damaged_file_in_the_cache_is_noticed(served, tmp_path):
    _, url = served
    remote = Remote("test", url, "cl.csv", SHA256, "")
    (file,) = download(remote, folder=tmp_path / "cache")
    file.path.write_bytes(CONTENT[:-1])
    with pytest.raises(DataFormatError, match="of the file in the cache"):
        download(remote, folder=tmp_path / "cache")


def test_a_server_that_fails_is_an_error_that_says_where(served, tmp_path):
    _, url = served
    for address in (url + ".absent", "http://127.0.0.1:9/cl.csv"):
        with pytest.raises(ObsfitError, match="cannot be fetched from http"):
            download(Remote("test", address, "cl.csv", SHA256, ""), folder=tmp_path / "cache")
    assert everything(tmp_path / "cache") == []


@pytest.mark.parametrize("filename", ["../cl.csv", "/etc/x", "", ".hidden", "a/b"])
def test_a_file_name_cannot_leave_the_cache(served, tmp_path, filename):
    with pytest.raises(DataFormatError, match="bare name"):
        download(Remote("test", served[1], filename, SHA256, ""), folder=tmp_path / "cache")


def test_other_addresses_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="https://"):
        download(Remote("test", "file:///etc/passwd", "x", "", ""), folder=tmp_path)


def test_an_unknown_release_names_those_known():
    with pytest.raises(ConfigurationError, match="icecube-2025-release"):
        fetch("icecube-2025")


def test_without_pooch_the_extra_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ConfigurationError, match=r"obsfit\[fetch\]"):
        fetch("icecube-2025-release", folder=tmp_path)


def test_the_release_of_icecube_is_marked_as_never_fetched():
    (release,) = [remote for remote in fetchable() if remote.name == "icecube-2025-release"]
    assert release.url == "doi:10.7910/DVN/DZI2F5"
    assert release.sha256 == ""
    assert "Never fetched" in release.story


def test_a_release_by_doi_keeps_its_files_by_recorded_checksums(served, tmp_path, monkeypatch):
    """The repository is replaced by a stand-in: only our own bookkeeping is tested here."""
    import pooch

    class Repository:
        registry_files = ("cl.csv",)

        def __init__(self, path):
            self.path = path

        def load_registry_from_doi(self):
            pass

        def fetch(self, name):
            self.path.mkdir(parents=True, exist_ok=True)
            (self.path / name).write_bytes(CONTENT)

    monkeypatch.setattr(pooch, "create", lambda path, base_url: Repository(path))
    remote = Remote("release", "doi:10.0/none", "", "", "")
    assert [file.checksum for file in download(remote, folder=tmp_path)] == ["recorded"]
    assert [file.checksum for file in download(remote, folder=tmp_path)] == ["verified"]
