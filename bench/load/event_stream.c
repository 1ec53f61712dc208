#define _GNU_SOURCE /* strcasestr */
#include "event_stream.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "load.h"

static void receive_within(const struct connection *c, int seconds)
{
    struct timeval limit = {.tv_sec = seconds};
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
}

void event_stream_ask(struct connection *c, const char *host, int port, const char *path)
{
    char request[512];
    int length = snprintf(request, sizeof request,
                          "GET %s HTTP/1.1\r\nHost: %s:%d\r\nAccept: text/event-stream\r\n\r\n",
                          path, host, port);
    if (connection_send(c, request, (size_t)length) != length)
        fail("cannot send the request: %s", strerror(errno));
}

void event_stream_await_head(struct connection *c)
{
    char head[4096] = "";
    size_t length = 0;
    receive_within(c, 10);
    while (!strstr(head, "\r\n\r\n")) {
        if (length + 1 == sizeof head || connection_receive(c, head + length, 1) != 1)
            fail("the response broke off after %zu bytes: %s", length, strerror(errno));
        head[++length] = 0;
    }
    receive_within(c, 0);
    if (strncmp(head, "HTTP/1.1 200", 12) != 0 || !strcasestr(head, "content-type: text/event-stream")
        || !strcasestr(head, "transfer-encoding: chunked"))
        fail("not an event stream: %s", head);
}

/* Hand over the event in these bytes, which end with a blank line. */
static void hand_over(const char *event, size_t length, frame_handler handle, void *owner,
                      uint64_t now)
{
    const char *data = NULL, *end = event + length;
    size_t size = 0;
    for (const char *line = event; line < end;) {
        const char *next = memchr(line, '\n', (size_t)(end - line));
        size_t width = (size_t)(next - line);
        if (width && line[width - 1] == '\r')
            width--;
        if (width >= 6 && memcmp(line, "data: ", 6) == 0) {
            if (data)
                fail("an event with two lines of data: %.*s", (int)length, event);
            data = line + 6;
            size = width - 6;
        }
        line = next + 1;
    }
    struct frame_head frame = {1, FRAME_TEXT, 0, size};
    if (data)
        handle(owner, &frame, (const uint8_t *)data, now);
}

/* The length of the first whole event, 0 when more bytes are needed. */
static size_t whole_event(const char *text, size_t length)
{
    for (size_t at = 0; at < length;) {
        const char *end = memchr(text + at, '\n', length - at);
        if (!end)
            return 0;
        size_t width = (size_t)(end - (text + at));
        at += width + 1;
        if (width == 0 || (width == 1 && end[-1] == '\r'))
            return at;
    }
    return 0;
}

static void hand_over_all(struct event_stream *events, frame_handler handle, void *owner,
                          uint64_t now)
{
    size_t at = 0;
    for (size_t size; (size = whole_event(events->text + at, events->length - at)); at += size)
        hand_over(events->text + at, size, handle, owner, now);
    events->length -= at;
    if (at && events->length)
        memmove(events->text, events->text + at, events->length);
}

static void keep(struct event_stream *events, const uint8_t *bytes, size_t size)
{
    if (events->length + size > events->room)
        fail("an event of more than %zu bytes is longer than anything that is due", events->room);
    memcpy(events->text + events->length, bytes, size);
    events->length += size;
}

/* Take the data of a chunk that has come, but not the line end behind it; returns all that was read. */
static size_t take_data(struct event_stream *events, const uint8_t *bytes, size_t available)
{
    size_t size = events->left < available ? events->left : available;
    size_t data = events->left > 2 ? events->left - 2 : 0;
    keep(events, bytes, data < size ? data : size);
    events->left -= size;
    return size;
}

/* Read the line with a chunk's size; 0 when it is not whole. */
static size_t take_size(struct event_stream *events, const uint8_t *bytes, size_t available)
{
    const uint8_t *end = memchr(bytes, '\n', available);
    if (!end)
        return 0;
    events->left = strtoul((const char *)bytes, NULL, 16);
    if (events->left == 0)
        fail("the server ended the stream");
    events->left += 2;
    return (size_t)(end - bytes) + 1;
}

int event_stream_receive(struct inbox *in, struct event_stream *events, frame_handler handle,
                         void *owner)
{
    size_t room = in->room - in->length, at = 0;
    ssize_t got = connection_receive(&in->to, in->bytes + in->length, room);
    uint64_t now = now_ns();
    if (got < 0 && errno == EAGAIN)
        return 0;
    if (got <= 0)
        fail("the server hung up: %s", connection_fault(&in->to, got));
    size_t length = in->length + (size_t)got;
    for (size_t size = 1; size && at < length; at += size)
        size = events->left ? take_data(events, in->bytes + at, length - at)
                            : take_size(events, in->bytes + at, length - at);
    hand_over_all(events, handle, owner, now);
    in->length = length - at;
    if (at && in->length)
        memmove(in->bytes, in->bytes + at, in->length);
    return (size_t)got == room;
}
