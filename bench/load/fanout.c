/* Fan-out load: one socket publishes, many are subscribed, and every one of them must receive
 * every message, once and in order, with the text as it was sent. A number of publishes is in
 * flight: the next one goes out when the oldest has reached all sockets.
 *
 * A subscriber counts once it has received the text "subscribed"; the publisher receives
 * nothing. Publish n uses slot n modulo depth. Latency runs from just before the write of the
 * publish to just after the read of each delivery; a delivery is what this load counts.
 *
 * With several topics they are published to in turn, and each has an equal part of the sockets;
 * socket i is subscribed to topic i modulo topics. A subscriber's path then ends with its topic,
 * a slash and four hexadecimal digits, with which the topic's messages begin.
 *
 * Some of the sockets can be slow: they read so many bytes a second and no more, and need not
 * receive everything, but what comes must be right and in order. The others are the fast ones,
 * for whom all of the above holds; `messages` are theirs. After the window, with nothing more
 * published, the slow ones read all that is left for them: what they never got was dropped.
 *
 * With `events` the subscribers are event streams over HTTP/1.1 instead; the publisher remains a
 * WebSocket.
 *
 * With several ports, which are those of several servers, each has an equal part of the subscribers,
 * and the publisher is at the first.
 *
 * Knows nothing of servers or CPU of others; that is the harness's side (see load.h). */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "event_stream.h"
#include "histogram.h"
#include "load.h"
#include "message.h"
#include "websocket.h"

#define AT_ONCE 64 /* handshakes, and closes, that are under way */
#define SILENCE_MS 5000
#define SUBSCRIBED "subscribed"
#define SLOW_BUFFER 16384 /* bytes that the kernel receives for a slow one */
#define SLOW_TURNS 10     /* reads of a slow one in a second */
#define DRAIN_MS 30000
#define DRAINED_MS 1000   /* without a message, after which nothing is left for slow ones */
#define MOST_PORTS 16

struct options {
    const char *host, *subscribe, *publish;
    int ports[MOST_PORTS], servers, sockets, depth;
    int topics; /* 0: one, that no path and no message names */
    int events; /* subscribers are event streams */
    int slow, rate; /* sockets of all that are slow, and bytes a second that each reads */
    size_t size;
    double warmup, seconds;
};

struct subscriber {
    int number, topic, subscribed, slow, gone;
    uint64_t received; /* messages */
    uint64_t next;     /* of a slow one: the least number that may come */
    struct inbox in;
    struct event_stream events;
};

struct slot {
    uint64_t sent_at;
    int missing; /* sockets that have not received it yet */
};

static struct options opt = {"127.0.0.1", "/subscribe", "/publish", {0}, 0, 1000, 1,
                             0, 0, 0, 1024, 128, 0.5, 3.0};
static struct subscriber *subscribers;
static struct subscriber publisher = {.number = -1};
static struct slot *slots;
static uint64_t published, completed;
static struct histogram latencies;
static struct message text;
static uint8_t *frame;
static const uint8_t mask[4] = {0x5c, 0xa3, 0x17, 0xe9};
static int poller, waiting_for; /* sockets that are not yet subscribed */
static uint64_t slow_turn, heard_at; /* when the slow ones read next, when anything came */

static int topics(void)
{
    return opt.topics ? opt.topics : 1;
}

static int has_events(const struct subscriber *s)
{
    return opt.events && s != &publisher;
}

static void begin_opening(struct subscriber *s, const char *path)
{
    int port = opt.ports[s == &publisher ? 0 : s->number % opt.servers];
    s->in.room = (text.size + 64) * (size_t)(opt.depth + 1) + 4096;
    s->in.bytes = allocate(s->in.room);
    connection_open(&s->in.to, opt.host, port, s->slow ? SLOW_BUFFER : 0);
    if (has_events(s)) {
        s->events = (struct event_stream){0, allocate(s->in.room), 0, s->in.room};
        event_stream_ask(&s->in.to, opt.host, port, path);
    } else {
        websocket_ask(&s->in.to, opt.host, port, path);
    }
}

/* Edge-triggered: a socket is polled once per arrival, not again to see that it is empty. */
static void finish_opening(struct subscriber *s)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = s};
    if (has_events(s))
        event_stream_await_head(&s->in.to);
    else
        websocket_await_upgrade(&s->in.to);
    connection_wait(&s->in.to, 0);
    if (epoll_ctl(poller, EPOLL_CTL_ADD, s->in.to.fd, &event) < 0)
        fail("epoll_ctl: %s", strerror(errno));
}

static void publish(void)
{
    size_t size = message_frame_size(&text);
    int missing = (opt.sockets - opt.slow) / topics();
    message_stamp_frame(&text, frame, mask, (int)(published % (uint64_t)topics()), published);
    slots[published % (uint64_t)opt.depth] = (struct slot){now_ns(), missing};
    published++;
    if (connection_send(&publisher.in.to, frame, size) != (ssize_t)size)
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
    uint64_t due = s->received * (uint64_t)topics() + (uint64_t)s->topic;
    struct slot *slot = &slots[due % (uint64_t)opt.depth];
    if (due >= published)
        fail("socket %d: a delivery of nothing: %.*s", s->number, (int)head->size,
             (const char *)payload);
    message_check(&text, s->number, s->topic, due, head, payload);
    histogram_add(&latencies, now - slot->sent_at);
    s->received++;
    slot->missing--;
    while (completed < published && slots[completed % (uint64_t)opt.depth].missing == 0)
        completed++;
}

static void accept_slow(struct subscriber *s, const struct frame_head *head,
                        const uint8_t *payload)
{
    uint64_t number = head->size < STAMP ? 0 : message_number(payload);
    if (number < s->next || number >= published)
        fail("slow socket %d: message %llu where one of %llu to %llu is due", s->number,
             (unsigned long long)number, (unsigned long long)s->next,
             (unsigned long long)published);
    message_check(&text, s->number, 0, number, head, payload);
    s->next = number + 1;
    s->received++;
}

static void accept_frame(void *owner, const struct frame_head *head, const uint8_t *payload,
                         uint64_t now)
{
    struct subscriber *s = owner;
    if (head->opcode == FRAME_CLOSE && s->slow)
        s->gone = 1;
    else if (head->opcode == FRAME_CLOSE)
        fail("socket %d: the server closed with code %d", s->number,
             websocket_close_code(head, payload));
    else if (head->opcode == FRAME_PING)
        websocket_pong(&s->in.to, payload, head->size);
    else if (head->opcode == FRAME_PONG)
        return;
    else if (s == &publisher)
        fail("the publisher received a message");
    else if (!s->subscribed)
        accept_subscribed(s, head, payload);
    else if (s->slow)
        accept_slow(s, head, payload);
    else
        accept_delivery(s, head, payload, now);
}

static int has_hung_up(const struct subscriber *s)
{
    uint8_t byte;
    ssize_t got = recv(s->in.to.fd, &byte, 1, MSG_PEEK);
    return got == 0 || (got < 0 && errno != EAGAIN);
}

/* A slow one's server may give it up. */
static int receive_slow(struct subscriber *s)
{
    s->gone = s->gone || has_hung_up(s);
    return !s->gone && websocket_receive(&s->in, accept_frame, s);
}

/* Let each slow socket read its share, several times a second. */
static void read_slowly(void)
{
    uint64_t now = now_ns();
    if (now < slow_turn)
        return;
    slow_turn = now + 1000000000ull / SLOW_TURNS;
    for (int i = 0; i < opt.sockets; i++)
        if (subscribers[i].slow)
            receive_slow(&subscribers[i]);
}

static void check_silence(int count)
{
    uint64_t now = now_ns();
    if (count > 0)
        heard_at = now;
    if (now - heard_at < SILENCE_MS * 1000000ull)
        return;
    if (waiting_for)
        fail("%d sockets were not subscribed within %d ms", waiting_for, SILENCE_MS);
    fail("no delivery for %d ms; %d sockets still miss message %llu", SILENCE_MS,
         slots[completed % (uint64_t)opt.depth].missing, (unsigned long long)completed);
}

/* Read what has come, from any socket that is not slow. */
static void receive(void)
{
    struct epoll_event ready[1024];
    int count = epoll_wait(poller, ready, 1024, opt.slow ? 1000 / SLOW_TURNS : SILENCE_MS);
    check_silence(count);
    for (int i = 0; i < count; i++) {
        struct subscriber *s = ready[i].data.ptr;
        while (has_events(s) ? event_stream_receive(&s->in, &s->events, accept_frame, s)
                             : websocket_receive(&s->in, accept_frame, s))
            ;
    }
    if (opt.slow && !waiting_for)
        read_slowly();
}

/* Keep publishing for `seconds`, then wait for what is in flight. */
static void fan_out_for(double seconds)
{
    uint64_t end = now_ns() + (uint64_t)(seconds * 1e9);
    int publishing = 1;
    heard_at = now_ns();
    while (publishing || completed < published) {
        for (; publishing && published - completed < (uint64_t)opt.depth;
             publishing = now_ns() < end)
            publish();
        receive();
        publishing = publishing && now_ns() < end;
    }
}

/* Spread among the others, and so over the server's workers. */
static int is_slow(int number)
{
    return (number + 1) * opt.slow / opt.sockets > number * opt.slow / opt.sockets;
}

static void slow_down(struct subscriber *s)
{
    s->in.most = (size_t)(opt.rate / SLOW_TURNS);
    if (epoll_ctl(poller, EPOLL_CTL_DEL, s->in.to.fd, NULL) < 0)
        fail("epoll_ctl: %s", strerror(errno));
}

/* The end of a block of sockets from `at` on. */
static int block_end(int at)
{
    return at + AT_ONCE < opt.sockets ? at + AT_ONCE : opt.sockets;
}

static void open_subscriber(struct subscriber *s, int number)
{
    char path[256];
    s->number = number;
    s->topic = number % topics();
    s->slow = is_slow(number);
    snprintf(path, sizeof path, opt.topics ? "%s/%04x" : "%s", opt.subscribe, (unsigned)s->topic);
    begin_opening(s, path);
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
    for (int at = 0; at < opt.sockets; at = block_end(at)) {
        for (int i = at; i < block_end(at); i++)
            open_subscriber(&subscribers[i], i);
        for (int i = at; i < block_end(at); i++)
            finish_opening(&subscribers[i]);
    }
    heard_at = now_ns();
    while (waiting_for)
        receive();
    for (int i = 0; i < opt.sockets; i++)
        if (subscribers[i].slow)
            slow_down(&subscribers[i]);
    begin_opening(&publisher, opt.publish);
    finish_opening(&publisher);
}

static void begin_closing(struct subscriber *s)
{
    connection_wait(&s->in.to, 1);
    if (has_events(s))
        connection_close(&s->in.to);
    else if (s->gone)
        connection_reset(&s->in.to);
    else
        websocket_close(&s->in.to);
}

static void close_sockets(void)
{
    begin_closing(&publisher);
    websocket_await_end(&publisher.in.to);
    for (int at = 0; at < opt.sockets; at = block_end(at)) {
        for (int i = at; i < block_end(at); i++)
            begin_closing(&subscribers[i]);
        for (int i = at; i < block_end(at); i++)
            if (!subscribers[i].gone && !opt.events)
                websocket_await_end(&subscribers[i].in.to);
    }
}

static void measure(void)
{
    memset(&latencies, 0, sizeof latencies);
    uint64_t cpu = own_cpu_ns(), start = now_ns(), first = published;
    fan_out_for(opt.seconds);
    uint64_t elapsed = now_ns() - start;
    cpu = own_cpu_ns() - cpu;
    int fast = (opt.sockets - opt.slow) / topics();
    if (latencies.total != (published - first) * (uint64_t)fast)
        fail("%llu deliveries of %llu messages to %d sockets each",
             (unsigned long long)latencies.total, (unsigned long long)(published - first), fast);
    tell_figures(&latencies, elapsed, cpu);
}

static uint64_t received_by_slow(void)
{
    uint64_t sum = 0;
    for (int i = 0; i < opt.sockets; i++)
        sum += subscribers[i].slow ? subscribers[i].received : 0;
    return sum;
}

/* Read all that is left for the slow ones, until nothing comes for a while. */
static void drain_slow(void)
{
    uint64_t now = now_ns(), heard = now, end = now + DRAIN_MS * 1000000ull;
    while (now < end && now - heard < DRAINED_MS * 1000000ull) {
        uint64_t before = received_by_slow();
        for (int i = 0; i < opt.sockets; i++) {
            subscribers[i].in.most = 0;
            while (subscribers[i].slow && receive_slow(&subscribers[i]))
                ;
        }
        now = now_ns();
        heard = received_by_slow() > before ? now : heard;
        usleep(1000);
    }
}

/* What the slow ones received, and what they never will. */
static void tell_slow(void)
{
    uint64_t seen = received_by_slow();
    int gone = 0;
    drain_slow();
    for (int i = 0; i < opt.sockets; i++)
        gone += subscribers[i].gone;
    uint64_t received = received_by_slow(), due = published * (uint64_t)opt.slow;
    printf("{\"slow_seen\": %llu, \"slow_received\": %llu, \"slow_dropped\": %llu, "
           "\"slow_gone\": %d}\n",
           (unsigned long long)seen, (unsigned long long)received,
           (unsigned long long)(due - received), gone);
}

/* As many ports as there are, with commas between them. */
static void read_ports(char *words)
{
    for (char *word = strtok(words, ","); word; word = strtok(NULL, ",")) {
        if (opt.servers == MOST_PORTS)
            fail("knows %d ports at most", MOST_PORTS);
        opt.ports[opt.servers++] = atoi(word);
    }
}

static void read_options(int count, char **words)
{
    static const struct option names[] = {
        {"host", 1, 0, 'h'},    {"port", 1, 0, 'p'},      {"subscribe", 1, 0, 'S'},
        {"publish", 1, 0, 'P'}, {"sockets", 1, 0, 's'},   {"depth", 1, 0, 'd'},
        {"size", 1, 0, 'z'},    {"warmup", 1, 0, 'w'},    {"seconds", 1, 0, 't'},
        {"slow", 1, 0, 'l'},    {"rate", 1, 0, 'r'},      {"topics", 1, 0, 'n'},
        {"events", 1, 0, 'e'},
        {0, 0, 0, 0}};
    for (int o; (o = getopt_long(count, words, "", names, NULL)) != -1;)
        switch (o) {
        case 'h': opt.host = optarg; break;
        case 'p': read_ports(optarg); break;
        case 'S': opt.subscribe = optarg; break;
        case 'P': opt.publish = optarg; break;
        case 's': opt.sockets = atoi(optarg); break;
        case 'd': opt.depth = atoi(optarg); break;
        case 'z': opt.size = (size_t)atol(optarg); break;
        case 'w': opt.warmup = atof(optarg); break;
        case 't': opt.seconds = atof(optarg); break;
        case 'l': opt.slow = atoi(optarg); break;
        case 'r': opt.rate = atoi(optarg); break;
        case 'n': opt.topics = atoi(optarg); break;
        case 'e': opt.events = atoi(optarg); break;
        default: fail("usage: fanout --port P[,P…] [--host H] [--subscribe PATH] [--publish PATH] "
                      "[--sockets N] [--depth N] [--size BYTES] [--warmup SECONDS] "
                      "[--seconds SECONDS] [--topics N] [--slow N] [--rate BYTES] [--events 1]");
        }
    if (opt.sockets < 1 || opt.depth < 1 || !opt.servers || opt.ports[0] < 1)
        fail("needs a port, a socket and a depth of 1 at least");
    if (opt.topics < 0 || opt.topics > 65536 || opt.sockets % topics())
        fail("needs as many sockets for each topic, of 65536 at most");
    if (opt.sockets % opt.servers)
        fail("needs as many sockets for each port");
    if (opt.events && opt.slow)
        fail("slow ones are WebSockets");
    if (opt.topics && opt.slow)
        fail("knows slow sockets of one topic only");
}

int main(int count, char **words)
{
    read_options(count, words);
    srand(1);
    open_sockets();
    fan_out_for(opt.warmup);
    tell_and_wait("ready");
    measure();
    if (opt.slow)
        tell_slow();
    close_sockets();
    return 0;
}
