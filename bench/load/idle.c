/* Idle load: so many WebSockets that are open and say nothing, while somebody looks at what the
 * server spends on them. Before that each may send a message and get it back. Pings are answered.
 *
 * It does not believe that a socket which says nothing is open: one that the server closes, or
 * on which anything comes, is an error at once; and when the harness has looked, each sends a
 * message that must come back. Whatever all do, a batch of them does at once. Latency runs from
 * just before `connect` to just after the upgrade.
 *
 * Knows nothing of servers or memory of others; that is the harness's side (see load.h). */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "histogram.h"
#include "load.h"
#include "message.h"
#include "websocket.h"

#define SILENCE_MS 5000
#define BATCH 32
#define SOURCE_PORTS 20000 /* sockets from one address; it has 28 000 ports by default */

struct options {
    const char *host;
    int port, sockets;
    int messages; /* that each sends before it is idle */
    size_t size;
};

struct client {
    int number;
    uint64_t began;
    uint64_t sent, received; /* messages */
    struct inbox in;
};

static struct options opt = {"127.0.0.1", 0, 1000, 0, 16};
static struct client *clients;
static struct histogram latencies;
static struct message text;
static uint8_t *frame;
static const uint8_t mask[4] = {0x5c, 0xa3, 0x17, 0xe9};

static void accept_frame(void *owner, const struct frame_head *head, const uint8_t *payload,
                         uint64_t now)
{
    struct client *c = owner;
    (void)now;
    if (head->opcode == FRAME_CLOSE)
        fail("socket %d: the server closed with code %d", c->number,
             websocket_close_code(head, payload));
    else if (head->opcode == FRAME_PING)
        websocket_pong(&c->in.to, payload, head->size);
    else if (c->received == c->sent)
        fail("socket %d: a message while it is idle", c->number);
    else {
        message_check(&text, c->number, c->number, c->received, head, payload);
        c->received++;
    }
}

/* Let all begin something and go through with it, a batch at a time. */
static void all(void (*begin)(struct client *), void (*end)(struct client *))
{
    for (int first = 0; first < opt.sockets; first += BATCH) {
        int next = first + BATCH < opt.sockets ? first + BATCH : opt.sockets;
        for (int i = first; i < next; i++)
            begin(&clients[i]);
        for (int i = first; i < next; i++)
            end(&clients[i]);
    }
}

static void ask(struct client *c)
{
    c->number = (int)(c - clients);
    c->in.room = opt.size + 256;
    c->in.bytes = allocate(c->in.room);
    c->began = now_ns();
    connection_begin(&c->in.to, opt.host, opt.port, 1 + c->number / SOURCE_PORTS);
    connection_wait(&c->in.to, 1);
    if (!connection_is_ready(&c->in.to))
        fail("socket %d: no handshake of TLS", c->number);
    websocket_ask(&c->in.to, opt.host, opt.port, "/");
}

static void await_upgrade(struct client *c)
{
    websocket_await_upgrade(&c->in.to);
    connection_wait(&c->in.to, 0);
    histogram_add(&latencies, now_ns() - c->began);
}

static void say(struct client *c)
{
    size_t size = message_frame_size(&text);
    message_stamp_frame(&text, frame, mask, c->number, c->sent++);
    if (connection_send(&c->in.to, frame, size) != (ssize_t)size)
        fail("socket %d: cannot send: %s", c->number, strerror(errno));
}

static void await_echo(struct client *c)
{
    struct pollfd arrival = {.fd = c->in.to.fd, .events = POLLIN};
    while (c->received < c->sent) {
        if (poll(&arrival, 1, SILENCE_MS) == 0)
            fail("socket %d: no echo within %d ms", c->number, SILENCE_MS);
        websocket_receive(&c->in, accept_frame, c);
    }
}

static void take_leave(struct client *c)
{
    websocket_close(&c->in.to);
    connection_wait(&c->in.to, 1);
}

static void await_end(struct client *c)
{
    websocket_await_end(&c->in.to);
}

static int watch_all(void)
{
    int poller = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &event) < 0)
        fail("epoll_ctl: %s", strerror(errno));
    for (int i = 0; i < opt.sockets; i++) {
        event.data.ptr = &clients[i];
        if (epoll_ctl(poller, EPOLL_CTL_ADD, clients[i].in.to.fd, &event) < 0)
            fail("epoll_ctl: %s", strerror(errno));
    }
    return poller;
}

/* Say nothing until the harness says a line. */
static void idle_until_told(void)
{
    struct epoll_event ready[256];
    int poller = watch_all();
    for (;;) {
        int count = epoll_wait(poller, ready, 256, -1);
        for (int i = 0; i < count; i++) {
            struct client *c = ready[i].data.ptr;
            if (!c)
                return wait_for_line();
            websocket_receive(&c->in, accept_frame, c);
        }
    }
}

static void measure(void)
{
    uint64_t cpu = own_cpu_ns(), start = now_ns();
    all(ask, await_upgrade);
    for (int i = 0; i < opt.messages; i++)
        all(say, await_echo);
    uint64_t elapsed = now_ns() - start;
    say_figures(&latencies, elapsed, own_cpu_ns() - cpu);
    idle_until_told();
}

static void read_options(int count, char **words)
{
    static const struct option names[] = {{"host", 1, 0, 'h'},     {"port", 1, 0, 'p'},
                                          {"sockets", 1, 0, 's'},  {"messages", 1, 0, 'm'},
                                          {"size", 1, 0, 'z'},     {"tls", 1, 0, 'T'},
                                          {0, 0, 0, 0}};
    for (int o; (o = getopt_long(count, words, "", names, NULL)) != -1;)
        switch (o) {
        case 'h': opt.host = optarg; break;
        case 'p': opt.port = atoi(optarg); break;
        case 's': opt.sockets = atoi(optarg); break;
        case 'm': opt.messages = atoi(optarg); break;
        case 'z': opt.size = (size_t)atol(optarg); break;
        case 'T': connection_trust(optarg); break;
        default: fail("usage: idle --port P [--host H] [--sockets N] [--messages N] "
                      "[--size BYTES] [--tls CERTIFICATE]");
        }
    if (opt.sockets < 1 || opt.messages < 0 || opt.port < 1)
        fail("needs a port and a socket at least");
}

int main(int count, char **words)
{
    read_options(count, words);
    srand(1);
    setvbuf(stdin, NULL, _IONBF, 0); /* what is not read yet must wake epoll */
    text = message_make(opt.size);
    frame = allocate(message_frame_size(&text));
    message_write_frame(&text, frame, mask);
    clients = allocate(sizeof(struct client) * (size_t)opt.sockets);
    tell_and_wait("ready");
    measure();
    all(say, await_echo);
    all(take_leave, await_end);
    return 0;
}
