"""The environ of a WSGI app, made of an HTTP scope (PEP 3333, RFC 3875)."""

import pytest
from beam import scope_array
from hornbeam_erlang._asgi.environ import make_environ
from hornbeam_erlang._asgi.http import http_scope
from hornbeam_erlang._wire import packets


def environ(path=b"/", root_path="", scheme="http", **scope):
    scope = packets.decode_scope(scope_array(scheme, path, **scope))
    return make_environ(http_scope(scope, root_path), {})


def test_request_says_what_it_is():
    found = environ(b"/a", method="PUT", query=b"b=%20c", version="1.0", scheme="https")
    assert found == {
        "REQUEST_METHOD": "PUT",
        "SERVER_PROTOCOL": "HTTP/1.0",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a",
        "QUERY_STRING": "b=%20c",
        "RAW_URI": "/a?b=%20c",
        "REQUEST_URI": "/a?b=%20c",
        "wsgi.url_scheme": "https",
        "REMOTE_ADDR": "127.0.0.1",
        "REMOTE_PORT": "50000",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "8000",
    }


@pytest.mark.parametrize(
    ("path", "root_path", "script_name", "path_info", "raw"),
    [
        (b"/", "", "", "/", "/"),
        (b"/a%2Fb", "", "", "/a/b", "/a%2Fb"),
        (b"/caf%C3%A9", "", "", "/caf\xc3\xa9", "/caf%C3%A9"),
        (b"/%ff", "", "", "/\xff", "/%ff"),
        (b"/%2525", "", "", "/%25", "/%2525"),
        (b"/x", "/api", "/api", "/x", "/api/x"),
        (b"/api/x", "/api", "/api", "/api/x", "/api/api/x"),
        (b"/%C3%A9", "/\u00fc b", "/\xc3\xbc b", "/\xc3\xa9", "/%C3%BC%20b/%C3%A9"),
    ],
)
def test_path_is_parted_and_decoded_byte_by_byte(path, root_path, script_name, path_info, raw):
    found = environ(path, root_path)
    assert (found["SCRIPT_NAME"], found["PATH_INFO"]) == (script_name, path_info)
    assert found["RAW_URI"] == found["REQUEST_URI"] == raw


def test_headers_have_names_of_variables_and_repeated_ones_are_joined():
    found = environ(
        headers=[
            (b"host", b"a"),
            (b"content-type", b"text/plain"),
            (b"content-length", b"3"),
            (b"x-a", b"1"),
            (b"x-a", b"\xfc"),
            (b"cookie", b"a=1"),
            (b"cookie", b"b=2"),
        ]
    )
    assert {key: value for key, value in found.items() if key.startswith(("HTTP_", "CONTENT"))} == {
        "HTTP_HOST": "a",
        "CONTENT_TYPE": "text/plain",
        "CONTENT_LENGTH": "3",
        "HTTP_X_A": "1,\xfc",
        "HTTP_COOKIE": "a=1; b=2",
    }


def test_header_that_would_be_taken_for_another_is_left_out():
    found = environ(headers=[(b"x_user", b"mallory"), (b"content_length", b"1"), (b"x-user", b"a")])
    assert found["HTTP_X_USER"] == "a"
    assert "CONTENT_LENGTH" not in found and "HTTP_CONTENT_LENGTH" not in found


def test_header_that_programs_would_take_for_their_proxy_is_left_out():
    found = environ(headers=[(b"proxy", b"http://mallory"), (b"x-proxy", b"a")])
    assert "HTTP_PROXY" not in found and found["HTTP_X_PROXY"] == "a"


def test_header_of_any_length_has_a_name():
    name = b"x-" + b"a" * 10_000
    assert environ(headers=[(name, b"1")])["HTTP_X_" + "A" * 10_000] == "1"


@pytest.mark.parametrize(
    ("host", "scheme", "name", "port"),
    [
        (None, "http", "localhost", "80"),
        (None, "https", "localhost", "443"),
        (b"shop.example", "https", "shop.example", "443"),
        (b"shop.example:8080", "http", "shop.example", "8080"),
        (b"[::1]", "http", "[::1]", "80"),
        (b"[::1]:81", "http", "[::1]", "81"),
        (b"", "http", "localhost", "80"),
    ],
)
def test_unix_socket_has_the_servers_name_from_the_client(host, scheme, name, port):
    headers = [] if host is None else [(b"host", host)]
    found = environ(headers=headers, scheme=scheme, server=("/run/app", None), client=None)
    assert (found["SERVER_NAME"], found["SERVER_PORT"]) == (name, port)
    assert (found["REMOTE_ADDR"], found["REMOTE_PORT"]) == ("", "")


def test_what_on_connect_has_said_is_there():
    assert environ(connect={"user": "ada"})["hornbeam.connect"] == {"user": "ada"}
    assert "hornbeam.connect" not in environ()


def test_what_a_server_has_of_its_own_is_copied():
    own = {"wsgi.version": (1, 0)}
    scope = http_scope(packets.decode_scope(scope_array("http", b"/")), "")
    make_environ(scope, own)["wsgi.version"] = None
    assert own == {"wsgi.version": (1, 0)}
