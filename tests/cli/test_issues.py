"""Where issues come from: files, text, standard input, real HTTP."""

import io
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from steergraph.base.errors import InputError
from steergraph.cli.issues import MAX_BYTES, read_issue


@pytest.fixture
def server():
    pages = {"/issue.txt": b"It breaks\n\nbadly", "/long": b"x" * (MAX_BYTES + 1), "/binary": b"\xff\xfe\x00"}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            page = pages.get(self.path)
            self.send_response(200 if page is not None else 404)
            self.end_headers()
            self.wfile.write(page or b"")

        def log_message(self, *args):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def test_text_file_and_standard_input(tmp_path, monkeypatch):
    path = tmp_path / "issue.md"
    path.write_text("From a file")
    assert read_issue(str(path)) == "From a file"
    assert read_issue("mean([]) raises ZeroDivisionError") == "mean([]) raises ZeroDivisionError"
    assert read_issue("broken") == "broken"
    monkeypatch.setattr("sys.stdin", io.StringIO("From a pipe"))
    assert read_issue("-") == "From a pipe"


def test_a_byte_order_mark_is_no_part_of_an_issue(tmp_path, monkeypatch):
    path = tmp_path / "issue.md"
    path.write_text("It breaks", encoding="utf-8-sig")
    assert read_issue(str(path)) == "It breaks"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("снег\r\n".encode("utf-8-sig")), encoding="ascii"))
    assert read_issue("-") == "снег\n"


def test_a_folder_is_no_issue(tmp_path, monkeypatch):
    (tmp_path / "docs").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("docs", ".", str(tmp_path)):
        with pytest.raises(InputError, match="a folder"):
            read_issue(name)


def test_a_url_is_fetched(server):
    assert read_issue(f"{server}/issue.txt") == "It breaks\n\nbadly"


@pytest.mark.parametrize(
    ("path", "words"), [("/none", "cannot fetch"), ("/long", "longer than"), ("/binary", "not an issue")]
)
def test_a_bad_url_is_one_line(server, path, words):
    with pytest.raises(InputError, match=words) as error:
        read_issue(server + path)
    assert "\n" not in str(error.value)


def test_credentials_in_a_url_are_not_repeated():
    with pytest.raises(InputError) as error:
        read_issue("http://user:secret@127.0.0.1:9/issue")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("source", ["", "   \n", "no/such/file.md", "missing.txt"])
def test_nothing_to_read(source):
    with pytest.raises(InputError):
        read_issue(source)


def test_a_file_that_is_not_text(tmp_path):
    path = tmp_path / "issue.bin"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(InputError, match="UTF-8"):
        read_issue(str(path))
