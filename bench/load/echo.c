/* Echo load: many sockets, a fixed number of messages in flight on each, every reply
 * compared with what was sent. Frames are made once; per message only the first 16 bytes
 * of the payload change, to the socket's and the message's number, so that a reply that
 * is lost, doubled, reordered or meant for another socket is an error.
 *
 * A socket's frames stand in a ring of `depth` slots; message n uses slot n modulo depth,
 * which is free again once its reply has come. Replies that one read brought are answered
 * by one write. Latency runs from just before the write to just after the read.
 *
 * Knows nothing of servers or CPU of others; that is the harness's side (see load.h). */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "histogram.h"
#include "load.h"
#include "websocket.h"

#define STAMP 16
#define SILENCE_MS 5000

struct options {
    const char *host;
    int port, sockets, depth;
    size_t size;
    double warmup, seconds;
};

struct client {
    int fd, number;
    uint8_t mask[4];
    uint8_t *ring;           /* depth frames */
    uint64_t *sent_at;       /* depth times */
    uint64_t made, replied;  /* messages */
    uint64_t written;        /* bytes */
    uint8_t *in;             /* received and not yet read, from its start */
    size_t in_length;
};

static struct options opt = {"127.0.0.1", 0, 64, 1, 16, 0.5, 3.0};
static struct client *clients;
static struct histogram latencies;
static char *text;           /* the payload; its first STAMP bytes differ by message */
static size_t frame_size, in_room;
static int poller;

static void stamp(char out[STAMP], int socket, uint64_t message)
{
    static const char digits[] = "0123456789abcdef";
    uint64_t value = (uint64_t)socket << 48 | (message & 0xffffffffffffull);
    for (int i = STAMP - 1; i >= 0; i--, value >>= 4)
        out[i] = digits[value & 15];
}

/* Edge-triggered: a socket is polled once per arrival, not again to see that it is empty. */
static void watch(struct client *c)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event) < 0)
        fail("epoll_ctl: %s", strerror(errno));
}

static void flush(struct client *c)
{
    uint64_t ring_size = frame_size * (uint64_t)opt.depth;
    while (c->written < c->made * frame_size) {
        size_t from = (size_t)(c->written % ring_size);
        size_t all = (size_t)(c->made * frame_size - c->written);
        size_t first = all < ring_size - from ? all : (size_t)(ring_size - from);
        struct iovec parts[2] = {{c->ring + from, first}, {c->ring, all - first}};
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = all > first ? 2 : 1};
        ssize_t done = sendmsg(c->fd, &message, MSG_NOSIGNAL);
        if (done < 0 && errno != EAGAIN)
            fail("socket %d: cannot send: %s", c->number, strerror(errno));
        if (done < 0)
            return;
        c->written += (uint64_t)done;
    }
}

static void fill(struct client *c, uint64_t now)
{
    char number[STAMP];
    size_t payload = frame_size - opt.size;
    for (; c->made - c->replied < (uint64_t)opt.depth; c->made++) {
        uint64_t slot = c->made % (uint64_t)opt.depth;
        stamp(number, c->number, c->made);
        websocket_mask(c->ring + slot * frame_size + payload, number, STAMP, 0, c->mask);
        c->sent_at[slot] = now;
    }
    flush(c);
}

static void check_head(const struct client *c, const struct frame_head *frame)
{
    if (frame->opcode & 0x8)
        return;
    if (frame->opcode != FRAME_TEXT || !frame->final || frame->size != opt.size)
        fail("socket %d, message %llu: expected a text of %zu bytes, got opcode %d, %zu bytes%s",
             c->number, (unsigned long long)c->replied, opt.size, frame->opcode, frame->size,
             frame->final ? "" : ", a fragment");
}

static void check_text(const struct client *c, const uint8_t *payload)
{
    char number[STAMP];
    stamp(number, c->number, c->replied);
    if (memcmp(payload, number, STAMP) != 0)
        fail("socket %d, message %llu: expected %.16s, got %.16s", c->number,
             (unsigned long long)c->replied, number, (const char *)payload);
    if (memcmp(payload + STAMP, text + STAMP, opt.size - STAMP) != 0)
        fail("socket %d, message %llu: the text after its number has changed", c->number,
             (unsigned long long)c->replied);
}

/* A pong must not cut a half-written frame in two; one that is left out does no harm in a
 * run of seconds. */
static void pong(struct client *c, const uint8_t *payload, size_t size)
{
    uint8_t frame[CLIENT_HEAD_MAX + 125];
    if (c->written < c->made * frame_size)
        return;
    size_t head = websocket_write_head(frame, FRAME_PONG, size, c->mask);
    websocket_mask(frame + head, payload, size, 0, c->mask);
    if (send(c->fd, frame, head + size, MSG_NOSIGNAL) < 0)
        fail("socket %d: cannot send a pong: %s", c->number, strerror(errno));
}

static void accept_reply(struct client *c, const uint8_t *payload, uint64_t now)
{
    if (c->replied == c->made)
        fail("socket %d: a reply to nothing", c->number);
    check_text(c, payload);
    histogram_add(&latencies, now - c->sent_at[c->replied % (uint64_t)opt.depth]);
    c->replied++;
}

static void accept_frame(struct client *c, const struct frame_head *frame, const uint8_t *payload,
                         uint64_t now)
{
    if (frame->opcode == FRAME_TEXT)
        accept_reply(c, payload, now);
    else if (frame->opcode == FRAME_PING)
        pong(c, payload, frame->size);
    else if (frame->opcode == FRAME_CLOSE)
        fail("socket %d: the server closed with code %d", c->number,
             frame->size < 2 ? 1005 : payload[0] << 8 | payload[1]);
}

/* Read once; whether the buffer was filled, so that there may be more. */
static int read_replies(struct client *c, uint64_t *now)
{
    size_t room = in_room - c->in_length;
    ssize_t got = recv(c->fd, c->in + c->in_length, room, 0);
    *now = now_ns();
    if (got < 0 && errno == EAGAIN)
        return 0;
    if (got <= 0)
        fail("socket %d: the server hung up: %s", c->number, got ? strerror(errno) : "end of file");
    size_t length = c->in_length + (size_t)got, at = 0;
    struct frame_head frame;
    while (websocket_read_head(c->in + at, length - at, &frame)) {
        check_head(c, &frame);
        if (length - at < frame.head + frame.size)
            break;
        accept_frame(c, &frame, c->in + at + frame.head, *now);
        at += frame.head + frame.size;
    }
    c->in_length = length - at;
    if (at && c->in_length)
        memmove(c->in, c->in + at, c->in_length);
    return (size_t)got == room;
}

static uint64_t in_flight(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < opt.sockets; i++)
        sum += clients[i].made - clients[i].replied;
    return sum;
}

/* Keep all sockets full for `seconds`, then wait for what is in flight. */
static void echo_for(double seconds)
{
    struct epoll_event ready[256];
    uint64_t start = now_ns(), end = start + (uint64_t)(seconds * 1e9), now = start;
    for (int i = 0; i < opt.sockets; i++)
        fill(&clients[i], now);
    while (now < end || in_flight()) {
        int count = epoll_wait(poller, ready, 256, SILENCE_MS);
        if (count == 0)
            fail("no reply for %d ms with %llu in flight", SILENCE_MS,
                 (unsigned long long)in_flight());
        for (int i = 0; i < count; i++) {
            struct client *c = ready[i].data.ptr;
            if (ready[i].events & ~(uint32_t)EPOLLOUT)
                while (read_replies(c, &now))
                    ;
            if (now < end)
                fill(c, now);
            else
                flush(c);
        }
    }
}

static void *allocate(size_t size)
{
    void *memory = calloc(1, size);
    if (!memory)
        fail("out of memory");
    return memory;
}

static void open_client(struct client *c, int number)
{
    c->number = number;
    for (int i = 0; i < 4; i++)
        c->mask[i] = (uint8_t)(rand() >> 7 | 1);
    c->ring = allocate(frame_size * (size_t)opt.depth);
    c->sent_at = allocate(sizeof(uint64_t) * (size_t)opt.depth);
    c->in = allocate(in_room);
    for (int slot = 0; slot < opt.depth; slot++) {
        uint8_t *frame = c->ring + (size_t)slot * frame_size;
        size_t head = websocket_write_head(frame, FRAME_TEXT, opt.size, c->mask);
        websocket_mask(frame + head, text, opt.size, 0, c->mask);
    }
    c->fd = websocket_connect(opt.host, opt.port);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    watch(c);
}

static void open_clients(void)
{
    uint8_t head[CLIENT_HEAD_MAX], mask[4] = {0};
    frame_size = websocket_write_head(head, FRAME_TEXT, opt.size, mask) + opt.size;
    in_room = frame_size * (size_t)opt.depth + 4096;
    text = allocate(opt.size);
    for (size_t i = 0; i < opt.size; i++)
        text[i] = (char)(' ' + rand() % 95);
    poller = epoll_create1(0);
    clients = allocate(sizeof(struct client) * (size_t)opt.sockets);
    for (int i = 0; i < opt.sockets; i++)
        open_client(&clients[i], i);
}

static void close_clients(void)
{
    for (int i = 0; i < opt.sockets; i++) {
        fcntl(clients[i].fd, F_SETFL, 0);
        websocket_disconnect(clients[i].fd);
    }
}

static void measure(void)
{
    memset(&latencies, 0, sizeof latencies);
    uint64_t cpu = own_cpu_ns(), start = now_ns();
    echo_for(opt.seconds);
    uint64_t elapsed = now_ns() - start;
    cpu = own_cpu_ns() - cpu;
    tell_and_wait("{\"messages\": %llu, \"seconds\": %.6f, \"p50_us\": %.1f, \"p99_us\": %.1f, "
                  "\"max_us\": %.1f, \"generator_cpu_s\": %.6f}",
                  (unsigned long long)latencies.total, (double)elapsed / 1e9,
                  histogram_percentile(&latencies, 0.50) / 1e3,
                  histogram_percentile(&latencies, 0.99) / 1e3, (double)latencies.longest / 1e3,
                  (double)cpu / 1e9);
}

static void read_options(int count, char **words)
{
    static const struct option names[] = {
        {"host", 1, 0, 'h'}, {"port", 1, 0, 'p'},   {"sockets", 1, 0, 's'}, {"depth", 1, 0, 'd'},
        {"size", 1, 0, 'z'}, {"warmup", 1, 0, 'w'}, {"seconds", 1, 0, 't'}, {0, 0, 0, 0}};
    for (int o; (o = getopt_long(count, words, "", names, NULL)) != -1;)
        switch (o) {
        case 'h': opt.host = optarg; break;
        case 'p': opt.port = atoi(optarg); break;
        case 's': opt.sockets = atoi(optarg); break;
        case 'd': opt.depth = atoi(optarg); break;
        case 'z': opt.size = (size_t)atol(optarg); break;
        case 'w': opt.warmup = atof(optarg); break;
        case 't': opt.seconds = atof(optarg); break;
        default: fail("usage: echo --port P [--host H] [--sockets N] [--depth N] [--size BYTES] "
                      "[--warmup SECONDS] [--seconds SECONDS]");
        }
    if (opt.size < STAMP || opt.sockets < 1 || opt.depth < 1 || opt.port < 1)
        fail("needs a port, a socket, a depth of 1 and a size of %d at least", STAMP);
}

int main(int count, char **words)
{
    read_options(count, words);
    srand(1);
    open_clients();
    echo_for(opt.warmup);
    tell_and_wait("ready");
    measure();
    close_clients();
    return 0;
}
