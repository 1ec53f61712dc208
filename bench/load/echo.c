/* Echo load: many sockets, a fixed number of messages in flight on each, every reply
 * compared with what was sent. Frames are made once; per message only its stamp changes.
 *
 * A socket's frames stand in a ring of `depth` slots; message n uses slot n modulo depth,
 * which is free again once its reply has come. Replies that one read brought are answered
 * by one write. Latency runs from just before the write to just after the read.
 *
 * With an interval, a socket's messages are due at fixed times, all sockets out of step, and
 * latency runs from when a message was due: a server that stalls makes many messages late,
 * also those that could not be written meanwhile.
 *
 * Knows nothing of servers or CPU of others; that is the harness's side (see load.h). */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/uio.h>

#include "histogram.h"
#include "load.h"
#include "message.h"
#include "pace.h"
#include "websocket.h"

#define AT_ONCE 64 /* handshakes, and closes, that are under way */

struct options {
    const char *host;
    int port, sockets, depth;
    int silence; /* milliseconds without a reply after which the server is given up */
    size_t size;
    double warmup, seconds;
    double interval; /* milliseconds between a socket's messages; 0: as fast as it answers */
};

struct client {
    int number;
    uint8_t mask[4];
    uint8_t *ring;           /* depth frames */
    uint64_t *sent_at;       /* depth times */
    uint64_t made, replied;  /* messages */
    uint64_t written;        /* bytes */
    uint64_t due;            /* when the next message is, with an interval */
    struct inbox in;
};

static struct options opt = {"127.0.0.1", 0, 64, 1, 5000, 16, 0.5, 3.0, 0};
static struct client *clients;
static struct histogram latencies;
static struct message text;
static struct pace pace;
static size_t frame_size;
static int poller;

/* Edge-triggered: a socket is polled once per arrival, not again to see that it is empty. */
static void watch(struct client *c)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET,
                                .data.u32 = (uint32_t)c->number};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->in.to.fd, &event) < 0)
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
        ssize_t done = connection_send_parts(&c->in.to, parts, all > first ? 2 : 1);
        if (done < 0 && errno != EAGAIN)
            fail("socket %d: cannot send: %s", c->number,
                 connection_fault(&c->in.to, done));
        if (done < 0)
            return;
        c->written += (uint64_t)done;
    }
}

static void fill(struct client *c, uint64_t now)
{
    for (; c->made - c->replied < (uint64_t)opt.depth && c->due <= now; c->made++) {
        uint64_t slot = c->made % (uint64_t)opt.depth;
        message_stamp_frame(&text, c->ring + slot * frame_size, c->mask, c->number, c->made);
        c->sent_at[slot] = pace.step ? c->due : now;
        c->due += pace_interval(&pace);
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
        websocket_pong(&c->in.to, payload, frame->size);
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

static void begin(int socket, uint64_t due)
{
    clients[socket].due = due;
}

static void fill_one(int socket, uint64_t now)
{
    fill(&clients[socket], now);
}

static void flush_one(int socket)
{
    flush(&clients[socket]);
}

static void receive_all(int socket)
{
    while (websocket_receive(&clients[socket].in, accept_frame, &clients[socket]))
        ;
}

static void echo_for(double seconds)
{
    static const struct paced paced = {begin,       fill_one,  flush_one,
                                        receive_all, in_flight, "reply"};
    pace_run(&pace, &paced, poller, seconds, opt.silence);
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
    connection_open(&c->in.to, opt.host, opt.port, 0);
    websocket_ask(&c->in.to, opt.host, opt.port, "/");
}

static void finish_opening(struct client *c)
{
    websocket_await_upgrade(&c->in.to);
    connection_wait(&c->in.to, 0);
    watch(c);
}

/* The end of a block of sockets from `at` on. */
static int block_end(int at)
{
    return at + AT_ONCE < opt.sockets ? at + AT_ONCE : opt.sockets;
}

static void open_clients(void)
{
    text = message_make(opt.size);
    frame_size = message_frame_size(&text);
    poller = epoll_create1(0);
    pace = pace_make(opt.interval, opt.sockets);
    clients = allocate(sizeof(struct client) * (size_t)opt.sockets);
    for (int at = 0; at < opt.sockets; at = block_end(at)) {
        for (int i = at; i < block_end(at); i++)
            open_client(&clients[i], i);
        for (int i = at; i < block_end(at); i++)
            finish_opening(&clients[i]);
    }
}

static void close_clients(void)
{
    for (int at = 0; at < opt.sockets; at = block_end(at)) {
        for (int i = at; i < block_end(at); i++) {
            connection_wait(&clients[i].in.to, 1);
            websocket_close(&clients[i].in.to);
        }
        for (int i = at; i < block_end(at); i++)
            websocket_await_end(&clients[i].in.to);
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
        {"size", 1, 0, 'z'}, {"warmup", 1, 0, 'w'}, {"seconds", 1, 0, 't'},
        {"interval", 1, 0, 'i'}, {"silence", 1, 0, 'q'}, {"tls", 1, 0, 'T'}, {0, 0, 0, 0}};
    for (int o; (o = getopt_long(count, words, "", names, NULL)) != -1;)
        switch (o) {
        case 'h': opt.host = optarg; break;
        case 'p': opt.port = atoi(optarg); break;
        case 's': opt.sockets = atoi(optarg); break;
        case 'd': opt.depth = atoi(optarg); break;
        case 'z': opt.size = (size_t)atol(optarg); break;
        case 'w': opt.warmup = atof(optarg); break;
        case 't': opt.seconds = atof(optarg); break;
        case 'i': opt.interval = atof(optarg); break;
        case 'q': opt.silence = atoi(optarg); break;
        case 'T': connection_trust(optarg); break;
        default: fail("usage: echo --port P [--host H] [--sockets N] [--depth N] [--size BYTES] "
                      "[--warmup SECONDS] [--seconds SECONDS] [--interval MILLISECONDS] "
                      "[--silence MILLISECONDS] [--tls CERTIFICATE]");
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
