/* The numbered text messages that generators send and expect back: one random text, whose
 * first 16 bytes differ by message. They name the sender's socket and count its messages, so
 * a message that is lost, doubled, reordered or meant for another socket is an error. */
#ifndef MESSAGE_H
#define MESSAGE_H

#include <stddef.h>
#include <stdint.h>

#include "websocket.h"

#define STAMP 16

struct message {
    char *text; /* its first STAMP bytes do not count */
    size_t size;
};

struct message message_make(size_t size);

/* The first bytes of message `number` from socket `sender`. */
void message_stamp(char out[STAMP], int sender, uint64_t number);

/* Bytes of a client's frame that carries the message, and the frame itself, to be stamped. */
size_t message_frame_size(const struct message *m);
void message_write_frame(const struct message *m, uint8_t *frame, const uint8_t mask[4]);
void message_stamp_frame(const struct message *m, uint8_t *frame, const uint8_t mask[4],
                         int sender, uint64_t number);

/* The number of the message whose first bytes these are. */
uint64_t message_number(const uint8_t *payload);

/* Fail unless what came on socket `receiver` is message `number` from socket `sender`. */
void message_check(const struct message *m, int receiver, int sender, uint64_t number,
                   const struct frame_head *frame, const uint8_t *payload);

#endif
