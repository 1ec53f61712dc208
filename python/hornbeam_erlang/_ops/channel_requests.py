"""What a channel layer asks of Erlang: arguments packed, results read. Pure: performs nothing."""

from typing import Any

from hornbeam_erlang._ops.requests import Request
from hornbeam_erlang._wire import ops
from hornbeam_erlang._wire.values import pack


def send(channel: str, address: str, packed: bytes) -> Request[bool]:
    return Request(ops.CHANNELS_SEND, [channel, address, packed], bool)


def put(channel: str, packed: bytes, seconds: float, capacity: int) -> Request[bool]:
    return Request(ops.CHANNELS_PUT, [channel, packed, _milliseconds(seconds), capacity], bool)


def put_back(channel: str, turn: int, message: Any, seconds: float) -> Request[None]:
    args = [channel, turn, pack(message), _milliseconds(seconds)]
    return Request(ops.CHANNELS_PUT_BACK, args, _nothing)


def want(channel: str, address: str, is_more: bool) -> Request[None]:
    return Request(ops.CHANNELS_WANT, [channel, address, is_more], _nothing)


def full(channel: str, is_full: bool, seconds: float) -> Request[None]:
    return Request(ops.CHANNELS_FULL, [channel, is_full, _milliseconds(seconds)], _nothing)


def join(
    group: str, channel: str, seconds: float, message_seconds: float, capacity: int
) -> Request[None]:
    times = [_milliseconds(seconds), _milliseconds(message_seconds)]
    return Request(ops.CHANNELS_JOIN, [group, channel, *times, capacity], _nothing)


def leave(group: str, channel: str) -> Request[None]:
    return Request(ops.CHANNELS_LEAVE, [group, channel], _nothing)


def clear(prefix: str) -> Request[None]:
    return Request(ops.CHANNELS_CLEAR, [prefix], _nothing)


def lost(messages: int, is_expired: bool) -> Request[None]:
    return Request(ops.CHANNELS_LOST, [messages, is_expired], _nothing)


def publish(topic: str, packed: bytes) -> Request[int]:
    return Request(ops.PUBSUB_PUBLISH, [topic, packed], int)


def _milliseconds(seconds: float) -> int:
    return max(int(seconds * 1000), 1)


def _nothing(result: Any) -> None:
    return None
