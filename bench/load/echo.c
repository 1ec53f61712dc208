/* Echo load: many sockets, a fixed number of messages in flight on each, every reply
 * compared with what was sent. Frames are made once; per message only its stamp changes.
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
#include "message.h"
#include "websocket.h"

#define SILENCE_MS 5000

struct options {
    const char *host;
    int port, sockets, depth;
    size_t size;
    double warmup, seconds;
};

struct client {
    int number;
    uint8_t mask[4];
    uint8_t *ring;           /* depth frames */
    uint64_t *sent_at;       /* depth times */
    uint64_t made, replied;  /* messages */
    uint64_t written;        /* bytes */
    struct inbox in;
};

static struct options opt = {"127.0.0.1", 0, 64, 1, 16, 0.5, 3.0};
static struct client *clients;
static struct histogram latencies;
static struct message text;
static size_t frame_size;
static int poller;

/* Edge-triggered: a socket is polled once per arrival, not again to see that it is empty. */
static void watch(struct client *c)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->in.fd, &event) < 0)
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
        ssize_t done = sendmsg(c->in.fd, &message, MSG_NOSIGNAL);
        if (done < 0 && errno != EAGAIN)
            fail("socket %d: cannot send: %s", c->number, strerror(errno));
        if (done < 0)
            return;
        c->written += (uint64_t)done;
    }
}

static void fill(struct client *c, uint64_t now)
{
    for (; c->made - c->replied < (uint64_t)opt.depth; c->made++) {
        uint64_t slot = c->made % (uint64_t)opt.depth;
        message_stamp_frame(&text, c->ring + slot * frame_size, c->mask, c->number, c->made);
        c->sent_at[slot] = now;
    }
    flush(c);
}

static void accept_reply(struct client *c, const struct frame_head *frame, const uint8_t *payload,
                         uint64_t now)
{
    if (c->replied == c->made)
        fail("socket %d: a reply to nothing", c->number);
    message_check(&text, c->number, c->number, c->replied, frame, payload);
    histogram_add(&latencies, now - c->sent_at[c->replied % (uint64_t)opt.depth]);
    c->replied++;
}

static void accept_frame(void *owner, const struct frame_head *frame, const uint8_t *payload,
                         uint64_t now)
{
    struct client *c = owner;
    /* A pong must not cut a half-written frame in two; one that is left out does no harm in
     * a run of seconds. */
    int whole = c->written == c->made * frame_size;
    if (frame->opcode == FRAME_CLOSE)
        fail("socket %d: the server closed with code %d", c->number,
             websocket_close_code(frame, payload));
    else if (frame->opcode == FRAME_PING && whole)
        websocket_pong(c->in.fd, payload, frame->size);
    else if (frame->opcode < FRAME_CLOSE)
        accept_reply(c, frame, payload, now);
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
                while (websocket_receive(&c->in, accept_frame, c))
                    ;
            now = now_ns();
            if (now < end)
                fill(c, now);
            else
                flush(c);
        }
    }
}

static void open_client(struct client *c, int number)
{
    c->number = number;
    for (int i = 0; i < 4; i++)
        c->mask[i] = (uint8_t)(rand() >> 7 | 1);
    c->ring = allocate(frame_size * (size_t)opt.depth);
    c->sent_at = allocate(sizeof(uint64_t) * (size_t)opt.depth);
    for (int slot = 0; slot < opt.depth; slot++)
        message_write_frame(&text, c->ring + (size_t)slot * frame_size, c->mask);
    c->in.room = frame_size * (size_t)opt.depth + 4096;
    c->in.bytes = allocate(c->in.room);
    c->in.fd = websocket_connect(opt.host, opt.port, "/");
    fcntl(c->in.fd, F_SETFL, O_NONBLOCK);
    watch(c);
}

static void open_clients(void)
{
    text = message_make(opt.size);
    frame_size = message_frame_size(&text);
    poller = epoll_create1(0);
    clients = allocate(sizeof(struct client) * (size_t)opt.sockets);
    for (int i = 0; i < opt.sockets; i++)
        open_client(&clients[i], i);
}

static void close_clients(void)
{
    for (int i = 0; i < opt.sockets; i++) {
        fcntl(clients[i].in.fd, F_SETFL, 0);
        websocket_disconnect(clients[i].in.fd);
    }
}

static void measure(void)
{
    memset(&latencies, 0, sizeof latencies);
    uint64_t cpu = own_cpu_ns(), start = now_ns();
    echo_for(opt.seconds);
    uint64_t elapsed = now_ns() - start;
    tell_figures(&latencies, elapsed, own_cpu_ns() - cpu);
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
    if (opt.sockets < 1 || opt.depth < 1 || opt.port < 1)
        fail("needs a port, a socket and a depth of 1 at least");
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
