#define _GNU_SOURCE /* memmem */
#include "websocket.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "load.h"

/* The key and its answer are the example of RFC 6455, section 1.3. */
#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

static const uint8_t no_mask[4] = {0, 0, 0, 0};

static void receive_within(const struct connection *c, int seconds)
{
    struct timeval limit = {.tv_sec = seconds};
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
}

/* Byte by byte, so that nothing after the response's empty line is taken. */
static void read_response(struct connection *c, char *response, size_t room)
{
    size_t length = 0;
    while (length + 1 < room && connection_receive(c, response + length, 1) == 1) {
        response[++length] = 0;
        if (length >= 4 && memcmp(response + length - 4, "\r\n\r\n", 4) == 0)
            return;
    }
    fail("the handshake broke off after %zu bytes: %s", length, strerror(errno));
}

size_t websocket_write_request(char *out, size_t room, const char *host, int port, const char *path)
{
    int length = snprintf(out, room,
                          "GET %s HTTP/1.1\r\nHost: %s:%d\r\nUpgrade: websocket\r\n"
                          "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                          "Sec-WebSocket-Key: " KEY "\r\n\r\n",
                          path, host, port);
    return (size_t)length;
}

size_t websocket_read_response(const char *in, size_t available)
{
    const char *end = memmem(in, available, "\r\n\r\n", 4);
    if (!end)
        return 0;
    size_t length = (size_t)(end + 4 - in);
    if (strncmp(in, "HTTP/1.1 101", 12) != 0 || !memmem(in, length, ACCEPT, strlen(ACCEPT)))
        fail("the handshake was refused: %.*s", (int)available, in);
    return length;
}

void websocket_ask(struct connection *c, const char *host, int port, const char *path)
{
    char request[512];
    size_t length = websocket_write_request(request, sizeof request, host, port, path);
    if (connection_send(c, request, length) != (ssize_t)length)
        fail("cannot send the handshake: %s", strerror(errno));
}

void websocket_await_upgrade(struct connection *c)
{
    char response[4096] = "";
    receive_within(c, 10);
    read_response(c, response, sizeof response);
    receive_within(c, 0);
    websocket_read_response(response, strlen(response));
}

size_t websocket_write_head(uint8_t *out, int opcode, size_t size, const uint8_t mask[4])
{
    size_t extra = size < 126 ? 0 : size < 65536 ? 2 : 8;
    out[0] = (uint8_t)(0x80 | opcode);
    out[1] = (uint8_t)(0x80 | (extra == 0 ? size : extra == 2 ? 126 : 127));
    for (size_t i = 0; i < extra; i++)
        out[2 + i] = (uint8_t)(size >> (8 * (extra - 1 - i)));
    memcpy(out + 2 + extra, mask, 4);
    return 2 + extra + 4;
}

void websocket_mask(uint8_t *out, const void *in, size_t size, size_t at, const uint8_t mask[4])
{
    const uint8_t *bytes = in;
    for (size_t i = 0; i < size; i++)
        out[i] = bytes[i] ^ mask[(at + i) & 3];
}

/* Read a server's frame head; 0 when more bytes are needed. */
static int read_head(const uint8_t *in, size_t available, struct frame_head *frame)
{
    if (available < 2)
        return 0;
    size_t size = in[1] & 0x7f;
    size_t extra = size < 126 ? 0 : size == 126 ? 2 : 8;
    if (available < 2 + extra)
        return 0;
    if (extra)
        size = 0;
    for (size_t i = 0; i < extra; i++)
        size = size << 8 | in[2 + i];
    *frame = (struct frame_head){in[0] >> 7, in[0] & 0x0f, 2 + extra, size};
    return 1;
}

int websocket_receive(struct inbox *in, frame_handler handle, void *owner)
{
    size_t room = in->room - in->length, at = 0;
    if (in->most && in->most < room)
        room = in->most;
    ssize_t got = connection_receive(&in->to, in->bytes + in->length, room);
    uint64_t now = now_ns();
    if (got < 0 && errno == EAGAIN)
        return 0;
    if (got <= 0)
        fail("the server hung up: %s", connection_fault(&in->to, got));
    size_t length = in->length + (size_t)got;
    struct frame_head frame;
    while (read_head(in->bytes + at, length - at, &frame)) {
        if (frame.head + frame.size > in->room)
            fail("a frame of %zu bytes is longer than anything that is due", frame.size);
        if (length - at < frame.head + frame.size)
            break;
        handle(owner, &frame, in->bytes + at + frame.head, now);
        at += frame.head + frame.size;
    }
    in->length = length - at;
    if (at && in->length)
        memmove(in->bytes, in->bytes + at, in->length);
    return (size_t)got == room;
}

void websocket_pong(struct connection *c, const uint8_t *payload, size_t size)
{
    uint8_t frame[CLIENT_HEAD_MAX + 125];
    size_t head = websocket_write_head(frame, FRAME_PONG, size, no_mask);
    memcpy(frame + head, payload, size);
    if (connection_send(c, frame, head + size) < 0)
        fail("cannot send a pong: %s", strerror(errno));
}

int websocket_close_code(const struct frame_head *frame, const uint8_t *payload)
{
    return frame->size < 2 ? 1005 : payload[0] << 8 | payload[1];
}

void websocket_close(struct connection *c)
{
    uint8_t frame[CLIENT_HEAD_MAX + 2];
    size_t head = websocket_write_head(frame, FRAME_CLOSE, 2, no_mask);
    frame[head] = 1000 >> 8;
    frame[head + 1] = 1000 & 0xff;
    connection_send(c, frame, head + 2);
}

void websocket_await_end(struct connection *c)
{
    uint8_t rest[4096];
    receive_within(c, 1);
    while (connection_receive(c, rest, sizeof rest) > 0)
        ;
    connection_close(c);
}
