#include "message.h"

#include <stdlib.h>
#include <string.h>

#include "load.h"

struct message message_make(size_t size)
{
    if (size < STAMP)
        fail("a message has %d bytes at least", STAMP);
    struct message m = {allocate(size), size};
    for (size_t i = 0; i < size; i++)
        m.text[i] = (char)(' ' + rand() % 95);
    return m;
}

void message_stamp(char out[STAMP], int sender, uint64_t number)
{
    static const char digits[] = "0123456789abcdef";
    uint64_t value = (uint64_t)sender << 48 | (number & 0xffffffffffffull);
    for (int i = STAMP - 1; i >= 0; i--, value >>= 4)
        out[i] = digits[value & 15];
}

uint64_t message_number(const uint8_t *payload)
{
    char digits[STAMP + 1] = {0};
    memcpy(digits, payload, STAMP);
    return strtoull(digits, NULL, 16) & 0xffffffffffffull;
}

size_t message_frame_size(const struct message *m)
{
    uint8_t head[CLIENT_HEAD_MAX], mask[4] = {0};
    return websocket_write_head(head, FRAME_TEXT, m->size, mask) + m->size;
}

void message_write_frame(const struct message *m, uint8_t *frame, const uint8_t mask[4])
{
    size_t head = websocket_write_head(frame, FRAME_TEXT, m->size, mask);
    websocket_mask(frame + head, m->text, m->size, 0, mask);
}

void message_stamp_frame(const struct message *m, uint8_t *frame, const uint8_t mask[4],
                         int sender, uint64_t number)
{
    char stamp[STAMP];
    message_stamp(stamp, sender, number);
    websocket_mask(frame + message_frame_size(m) - m->size, stamp, STAMP, 0, mask);
}

void message_check(const struct message *m, int receiver, int sender, uint64_t number,
                   const struct frame_head *frame, const uint8_t *payload)
{
    char stamp[STAMP];
    if (frame->opcode != FRAME_TEXT || !frame->final || frame->size != m->size)
        fail("socket %d, message %llu: expected a text of %zu bytes, got opcode %d, %zu bytes%s",
             receiver, (unsigned long long)number, m->size, frame->opcode, frame->size,
             frame->final ? "" : ", a fragment");
    message_stamp(stamp, sender, number);
    if (memcmp(payload, stamp, STAMP) != 0)
        fail("socket %d, message %llu: expected %.16s, got %.16s", receiver,
             (unsigned long long)number, stamp, (const char *)payload);
    if (memcmp(payload + STAMP, m->text + STAMP, m->size - STAMP) != 0)
        fail("socket %d, message %llu: the text after its number has changed", receiver,
             (unsigned long long)number);
}
