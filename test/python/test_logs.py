"""The queue of log lines and the streams that fill it, without a process."""

import io
import logging
import os
import sys
import threading
import traceback

import pytest
from hornbeam_erlang._wire.text import MAX_NAME, MAX_TEXT, clip, quote_line, quote_lines
from hornbeam_erlang._worker.logs import MAX_WAITING, Capture, LogHandler, LogQueue


@pytest.fixture
def queue():
    return LogQueue()


def everything(queue):
    return queue.take(1 << 40)


def test_lines_come_out_in_order_and_in_portions(queue):
    for n in range(5):
        queue.put(20, "a", f"{n}" * 10)
    assert [line[2][0] for line in queue.take(15)] == ["0", "1"]
    assert [line[2][0] for line in everything(queue)] == ["2", "3", "4"]
    assert not queue


def test_flood_is_bounded_and_counted(queue):
    line = "x" * MAX_TEXT
    fits = MAX_WAITING // MAX_TEXT + 1
    for _ in range(fits + 7):
        queue.put(20, "a", line)
    lines = everything(queue)
    assert len(lines) == fits + 1
    assert lines[-1] == (30, "hornbeam.logs", "7 log lines dropped")
    queue.put(20, "a", "again")
    assert everything(queue) == [(20, "a", "again")]


def test_long_text_loses_its_middle():
    text = "a" * MAX_TEXT + "b" * MAX_TEXT
    clipped = clip(text)
    assert clipped.startswith("aaa")
    assert clipped.endswith("bbb")
    assert f"{MAX_TEXT} characters left out" in clipped
    assert clip("a" * MAX_TEXT) == "a" * MAX_TEXT


def test_whole_lines_that_are_written_at_once_are_one_message(queue):
    stream = Capture(queue)._stdout
    print("one\ntwo", end="", file=stream)
    print(" and a half\n\nü\ud800", file=stream)
    assert texts(queue) == ["one", "two and a half\n", "ü\\ud800"]


def texts(queue):
    return [text for _, _, text in everything(queue)]


def raising():
    try:
        {}["k"]
    except KeyError as error:
        raise ValueError("for\ntwo reasons") from error


def test_traceback_that_is_printed_in_pieces_is_one_message(queue):
    stream = Capture(queue)._stderr
    try:
        raising()
    except ValueError:
        traceback.print_exc(file=stream)
        expected = traceback.format_exc()
    print("and on", file=stream)
    first, second, _ = (*expected.partition("\nThe above"),)
    said = texts(queue)
    assert said[-1] == "and on"
    assert "\n".join(said[:-1]) + "\n" == expected
    assert said[0] == first.rstrip("\n")
    assert said[1].startswith(f"{second}")
    assert len(said) <= 4  # what comes behind the first line of a message is not known to be its


def test_traceback_of_a_handler_of_logging_is_one_message(queue):
    logger = logging.Logger("app")
    logger.addHandler(logging.StreamHandler(Capture(queue)._stdout))
    try:
        raising()
    except ValueError:
        logger.exception("it failed")
        expected = traceback.format_exc()
    assert texts(queue) == [f"it failed\n{expected}".rstrip("\n")]


def test_what_begins_a_traceback_and_never_ends_is_not_lost(queue):
    capture = Capture(queue)
    print("Traceback (most recent call last):\n  File", file=capture._stderr)
    assert texts(queue) == []
    capture.finish()
    assert texts(queue) == ["Traceback (most recent call last):\n  File"]


def test_lines_that_no_message_could_hold_are_cut_between_lines(queue):
    stream = Capture(queue)._stdout
    lines = ["x" * 1000] * 200 + ["y" * 2 * MAX_TEXT]
    stream.write("\n".join(lines) + "\n")
    said = texts(queue)
    assert all(len(text) <= MAX_TEXT for text in said[:-1])
    assert "\n".join(said[:-1]) == "\n".join(lines[:-1])
    assert said[-1] == clip(lines[-1])


def test_stream_takes_bytes_and_unfinished_lines(queue):
    capture = Capture(queue)
    capture._stderr.buffer.write(b"\xff raw\nrest")
    capture.finish()
    assert everything(queue) == [(30, "stderr", "\\xff raw"), (30, "stderr", "rest")]


def test_endless_line_is_sent_in_pieces(queue):
    stream = Capture(queue)._stdout
    for _ in range(5):
        stream.buffer.write(b"x" * MAX_TEXT)
        stream.flush()
    assert queue


def test_record_has_level_logger_and_traceback(queue):
    logger = logging.Logger("app.part")
    logger.addHandler(LogHandler(queue))
    try:
        raise KeyError("k")
    except KeyError:
        logger.exception("it %s", "failed")
    ((level, name, text),) = everything(queue)
    assert (level, name) == (40, "app.part")
    assert text.startswith("it failed\nTraceback")
    assert text.endswith("KeyError: 'k'")


def test_what_the_wire_cannot_hold_of_a_record_is_cut(queue):
    queue.put(10**30, "n" * 2 * MAX_NAME, "text")
    ((level, name, text),) = everything(queue)
    assert level < 1 << 32
    assert name == "n" * MAX_NAME + "…"
    assert text == "text"


def test_any_thread_may_log(queue):
    threads = [
        threading.Thread(target=lambda: [queue.put(20, "a", "x") for _ in range(500)])
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(everything(queue)) == 4000


FORGED = "/x\n=ERROR REPORT=\r\x1b[31m\x9b\u2028\u202eé"


def test_text_from_outside_is_one_line_without_control_characters():
    assert quote_line(FORGED) == r"/x\n=ERROR REPORT=\r\x1b[31m\x9b\u2028\u202eé"
    assert quote_line("/größe and 'that'") == "/größe and 'that'"


def test_lines_after_the_first_are_indented():
    assert quote_lines("one\ntwo\x1b\n\n  three\n") == "one\n    two\\x1b\n    \n      three"


def test_forked_child_without_a_wire_writes_quoted_lines(queue):
    ours, theirs = os.pipe()
    queue.divert(theirs)
    queue.put(20, "a", FORGED)
    written = os.read(ours, 1000).decode()
    os.close(ours)
    os.close(theirs)
    assert written == "/x\n    =ERROR REPORT=\\r\\x1b[31m\\x9b\\u2028\\u202eé\n"


@pytest.mark.parametrize("how", ["detach", "close"])
def test_what_was_printed_arrives_from_one_stream_whatever_became_of_the_other(queue, how):
    capture = Capture(queue)
    print("of stdout", end="", file=capture._stdout)
    print("of stderr", end="", file=capture._stderr)
    getattr(capture._stdout, how)()
    capture.finish()
    assert [line[2] for line in everything(queue)] == ["of stdout", "of stderr"]


def test_what_the_app_has_put_around_a_stream_is_flushed_at_the_end(queue, monkeypatch):
    capture = Capture(queue)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(capture._stdout.detach()))
    sys.stdout.write("held back")
    capture.finish()
    assert [line[2] for line in everything(queue)] == ["held back"]
