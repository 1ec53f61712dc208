/* Fan-out load: one socket publishes, many are subscribed, and every one of them must receive
 * every message, once and in order, with the text as it was sent. A number of publishes is in
 * flight: the next one goes out when the oldest has reached all sockets.
 *
 * A subscriber counts once it has received the text "subscribed"; the publisher receives
 * nothing. Publish n uses slot n modulo depth. Latency runs from just before the write of the
 * publish to just after the read of each delivery; a delivery is what this load counts.
 *
 * Knows nothing of servers or CPU of others; that is the harness's side (see load.h). */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "histogram.h"
#include "load.h"
#include "message.h"
#include "websocket.h"

#define SILENCE_MS 5000
#define SUBSCRIBED "subscribed"

struct options {
    const char *host, *subscribe, *publish;
    int port, sockets, depth;
    size_t size;
    double warmup, seconds;
};

struct subscriber {
    int number, subscribed;
    uint64_t received; /* messages */
    struct inbox in;
};

struct slot {
    uint64_t sent_at;
    int missing; /* sockets that have not received it yet */
};

static struct options opt = {"127.0.0.1", "/subscribe", "/publish", 0, 1000, 1, 128, 0.5, 3.0};
static struct subscriber *subscribers;
static struct subscriber publisher = {.number = -1};
static struct slot *slots;
static uint64_t published, completed;
static struct histogram latencies;
static struct message text;
static uint8_t *frame;
static const uint8_t mask[4] = {0x5c, 0xa3, 0x17, 0xe9};
static int poller, waiting_for; /* sockets that are not yet subscribed */

/* Edge-triggered: a socket is polled once per arrival, not again to see that it is empty. */
static void open_socket(struct subscriber *s, const char *path)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = s};
    s->in.room = (text.size + 16) * (size_t)(opt.depth + 1) + 4096;
    s->in.bytes = allocate(s->in.room);
    s->in.fd = websocket_connect(opt.host, opt.port, path);
    fcntl(s->in.fd, F_SETFL, O_NONBLOCK);
    if (epoll_ctl(poller, EPOLL_CTL_ADD, s->in.fd, &event) < 0)
        fail("epoll_ctl: %s", strerror(errno));
}

static void publish(void)
{
    size_t size = message_frame_size(&text);
    message_stamp_frame(&text, frame, mask, 0, published);
    slots[published % (uint64_t)opt.depth] = (struct slot){now_ns(), opt.sockets};
    published++;
    if (send(publisher.in.fd, frame, size, MSG_NOSIGNAL) != (ssize_t)size)
        fail("cannot publish: %s", strerror(errno));
}

static void accept_subscribed(struct subscriber *s, const struct frame_head *head,
                              const uint8_t *payload)
{
    if (head->size != strlen(SUBSCRIBED) || memcmp(payload, SUBSCRIBED, head->size) != 0)
        fail("socket %d: expected \"" SUBSCRIBED "\", got %.*s", s->number, (int)head->size,
             (const char *)payload);
    s->subscribed = 1;
    waiting_for--;
}

static void accept_delivery(struct subscriber *s, const struct frame_head *head,
                            const uint8_t *payload, uint64_t now)
{
    struct slot *slot = &slots[s->received % (uint64_t)opt.depth];
    if (s->received == published)
        fail("socket %d: a delivery of nothing: %.*s", s->number, (int)head->size,
             (const char *)payload);
    message_check(&text, s->number, 0, s->received, head, payload);
    histogram_add(&latencies, now - slot->sent_at);
    s->received++;
    slot->missing--;
    /* Each socket receives in order, so the oldest publish is complete before the next. */
    completed += slot->missing == 0;
}

static void accept_frame(void *owner, const struct frame_head *head, const uint8_t *payload,
                         uint64_t now)
{
    struct subscriber *s = owner;
    if (head->opcode == FRAME_CLOSE)
        fail("socket %d: the server closed with code %d", s->number,
             websocket_close_code(head, payload));
    else if (head->opcode == FRAME_PING)
        websocket_pong(s->in.fd, payload, head->size);
    else if (head->opcode == FRAME_PONG)
        return;
    else if (s == &publisher)
        fail("the publisher received a message");
    else if (!s->subscribed)
        accept_subscribed(s, head, payload);
    else
        accept_delivery(s, head, payload, now);
}

/* Read what has come, from any socket. */
static void receive(void)
{
    struct epoll_event ready[1024];
    int count = epoll_wait(poller, ready, 1024, SILENCE_MS);
    if (count == 0 && waiting_for)
        fail("%d sockets were not subscribed within %d ms", waiting_for, SILENCE_MS);
    if (count == 0)
        fail("no delivery for %d ms; %d sockets still miss message %llu", SILENCE_MS,
             slots[completed % (uint64_t)opt.depth].missing, (unsigned long long)completed);
    for (int i = 0; i < count; i++) {
        struct subscriber *s = ready[i].data.ptr;
        while (websocket_receive(&s->in, accept_frame, s))
            ;
    }
}

/* Keep publishing for `seconds`, then wait for what is in flight. */
static void fan_out_for(double seconds)
{
    uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);
    int publishing = 1;
    while (publishing || completed < published) {
        for (; publishing && published - completed < (uint64_t)opt.depth;
             publishing = now_ns() < end)
            publish();
        receive();
        publishing = publishing && now_ns() < end;
    }
}

static void open_sockets(void)
{
    text = message_make(opt.size);
    frame = allocate(message_frame_size(&text));
    message_write_frame(&text, frame, mask);
    slots = allocate(sizeof(struct slot) * (size_t)opt.depth);
    subscribers = allocate(sizeof(struct subscriber) * (size_t)opt.sockets);
    poller = epoll_create1(0);
    waiting_for = opt.sockets;
    for (int i = 0; i < opt.sockets; i++) {
        subscribers[i].number = i;
        open_socket(&subscribers[i], opt.subscribe);
    }
    while (waiting_for)
        receive();
    open_socket(&publisher, opt.publish);
}

static void close_socket(struct subscriber *s)
{
    fcntl(s->in.fd, F_SETFL, 0);
    websocket_disconnect(s->in.fd);
}

static void close_sockets(void)
{
    close_socket(&publisher);
    for (int i = 0; i < opt.sockets; i++)
        close_socket(&subscribers[i]);
}

static void measure(void)
{
    memset(&latencies, 0, sizeof latencies);
    uint64_t cpu = own_cpu_ns(), start = now_ns(), first = published;
    fan_out_for(opt.seconds);
    uint64_t elapsed = now_ns() - start;
    cpu = own_cpu_ns() - cpu;
    if (latencies.total != (published - first) * (uint64_t)opt.sockets)
        fail("%llu deliveries of %llu messages to %d sockets",
             (unsigned long long)latencies.total, (unsigned long long)(published - first),
             opt.sockets);
    tell_figures(&latencies, elapsed, cpu);
}

static void read_options(int count, char **words)
{
    static const struct option names[] = {
        {"host", 1, 0, 'h'},    {"port", 1, 0, 'p'},      {"subscribe", 1, 0, 'S'},
        {"publish", 1, 0, 'P'}, {"sockets", 1, 0, 's'},   {"depth", 1, 0, 'd'},
        {"size", 1, 0, 'z'},    {"warmup", 1, 0, 'w'},    {"seconds", 1, 0, 't'},
        {0, 0, 0, 0}};
    for (int o; (o = getopt_long(count, words, "", names, NULL)) != -1;)
        switch (o) {
        case 'h': opt.host = optarg; break;
        case 'p': opt.port = atoi(optarg); break;
        case 'S': opt.subscribe = optarg; break;
        case 'P': opt.publish = optarg; break;
        case 's': opt.sockets = atoi(optarg); break;
        case 'd': opt.depth = atoi(optarg); break;
        case 'z': opt.size = (size_t)atol(optarg); break;
        case 'w': opt.warmup = atof(optarg); break;
        case 't': opt.seconds = atof(optarg); break;
        default: fail("usage: fanout --port P [--host H] [--subscribe PATH] [--publish PATH] "
                      "[--sockets N] [--depth N] [--size BYTES] [--warmup SECONDS] "
                      "[--seconds SECONDS]");
        }
    if (opt.sockets < 1 || opt.depth < 1 || opt.port < 1)
        fail("needs a port, a socket and a depth of 1 at least");
}

int main(int count, char **words)
{
    read_options(count, words);
    srand(1);
    open_sockets();
    fan_out_for(opt.warmup);
    tell_and_wait("ready");
    measure();
    close_sockets();
    return 0;
}
