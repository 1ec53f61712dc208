/* A WebSocket client's bytes (RFC 6455): upgrade a connection, write a masked frame, read
 * a server's frames. Offers no extension, so nothing is ever compressed.
 * Knows nothing of what the messages mean or of how they are timed. */
#ifndef WEBSOCKET_H
#define WEBSOCKET_H

#include <stddef.h>
#include <stdint.h>

#include "connection.h"

enum { FRAME_TEXT = 0x1, FRAME_BINARY = 0x2, FRAME_CLOSE = 0x8, FRAME_PING = 0x9, FRAME_PONG = 0xA };

#define CLIENT_HEAD_MAX 14

struct frame_head {
    int final;
    int opcode;
    size_t head; /* bytes before the payload */
    size_t size; /* bytes of the payload */
};

/* What a socket has received and nobody has read yet, from the start of `bytes`. */
struct inbox {
    struct connection to;
    uint8_t *bytes;
    size_t length, room;
    size_t most; /* bytes to take at a time, 0: all that there is room for */
};

/* Called with each whole frame and the time when its last bytes were read. */
typedef void (*frame_handler)(void *owner, const struct frame_head *, const uint8_t *payload,
                              uint64_t now);

/* Both halves of an upgrade on a connection that waits, apart so that many can ask before the first
 * of them waits. */
void websocket_ask(struct connection *c, const char *host, int port, const char *path);
void websocket_await_upgrade(struct connection *c);

/* Write the request of an upgrade; returns its length. */
size_t websocket_write_request(char *out, size_t room, const char *host, int port,
                               const char *path);

/* The length of the response to it, 0 when more bytes are needed. Fails when it is refused. */
size_t websocket_read_response(const char *in, size_t available);

/* Read once and hand over what is whole; whether the buffer was filled, so that there may be
 * more to read. Fails when the server hangs up. */
int websocket_receive(struct inbox *in, frame_handler handle, void *owner);

/* Write the head of a client's frame with this mask; returns its length. */
size_t websocket_write_head(uint8_t *out, int opcode, size_t size, const uint8_t mask[4]);

/* Copy `size` bytes and mask them; `at` is their offset in the payload. */
void websocket_mask(uint8_t *out, const void *in, size_t size, size_t at, const uint8_t mask[4]);

/* Answer a ping. */
void websocket_pong(struct connection *c, const uint8_t *payload, size_t size);

/* The code of a Close frame, 1005 where it has none. */
int websocket_close_code(const struct frame_head *frame, const uint8_t *payload);

/* Send Close 1000. */
void websocket_close(struct connection *c);

/* Wait, for a second at most, until the server hangs up. */
void websocket_await_end(struct connection *c);

#endif
