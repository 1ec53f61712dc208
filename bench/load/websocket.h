/* A WebSocket client's bytes (RFC 6455): connect and upgrade, write a masked frame, read
 * the head of a server's frame. Offers no extension, so nothing is ever compressed.
 * Knows nothing of what the messages mean or of how they are timed. */
#ifndef WEBSOCKET_H
#define WEBSOCKET_H

#include <stddef.h>
#include <stdint.h>

enum { FRAME_TEXT = 0x1, FRAME_BINARY = 0x2, FRAME_CLOSE = 0x8, FRAME_PING = 0x9, FRAME_PONG = 0xA };

#define CLIENT_HEAD_MAX 14

struct frame_head {
    int final;
    int opcode;
    size_t head; /* bytes before the payload */
    size_t size; /* bytes of the payload */
};

/* A blocking TCP connection to host:port with TCP_NODELAY, upgraded at path "/". */
int websocket_connect(const char *host, int port);

/* Write the head of a client's frame with this mask; returns its length. */
size_t websocket_write_head(uint8_t *out, int opcode, size_t size, const uint8_t mask[4]);

/* Copy `size` bytes and mask them; `at` is their offset in the payload. */
void websocket_mask(uint8_t *out, const void *in, size_t size, size_t at, const uint8_t mask[4]);

/* Read a server's frame head; 0 when more bytes are needed. */
int websocket_read_head(const uint8_t *in, size_t available, struct frame_head *frame);

/* Send Close 1000 and wait, for a second at most, until the server hangs up. */
void websocket_disconnect(int fd);

#endif
