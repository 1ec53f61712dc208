/* Lives of WebSockets: connect, upgrade, one message that comes back, close, and again; a fixed
 * number of lives is in progress at once, and the next begins where one has ended.
 *
 *   CONNECTING → ASKING → UPGRADING → ECHOING → CLOSING → CLOSED ─┬→ CONNECTING
 *                                                                 └→ OVER, when the time is
 *
 * A life ends well when the server has answered Close 1000 with the same and has then ended the
 * connection, as RFC 6455 (section 7.1.1) wants it; so the server waits out TIME_WAIT and no
 * port of ours is spent. All else is an error. Over TLS lives are counted whose end came without a
 * close_notify. Latency runs from just before `connect` to just after the end was read.
 *
 * Knows nothing of servers or CPU of others; that is the harness's side (see load.h). */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "histogram.h"
#include "load.h"
#include "message.h"
#include "websocket.h"

#define SILENCE_MS 5000

enum stage { CONNECTING, ASKING, UPGRADING, ECHOING, CLOSING, CLOSED, OVER, STAGES };

struct options {
    const char *host;
    int port, lives; /* at once */
    int sources;     /* addresses of ours, for who needs more ports than one has */
    size_t size;
    double warmup, seconds;
};

struct life {
    int number;
    enum stage stage;
    uint64_t count; /* lives before this one, in this place */
    uint64_t began;
    struct inbox in;
};

static struct options opt = {"127.0.0.1", 0, 32, 1, 16, 0.5, 3.0};
static struct life *lives;
static struct histogram latencies;
static struct message text;
static char request[512];
static size_t request_size;
static uint8_t *frame;
static const uint8_t mask[4] = {0x5c, 0xa3, 0x17, 0xe9};
static int poller, in_progress, tls;
static uint64_t cut; /* lives whose end TLS did not know of */
static uint64_t end_at;

static int source_of(const struct life *l)
{
    return opt.sources > 1 ? 1 + (int)((l->count + (uint64_t)l->number) % (uint64_t)opt.sources) : 0;
}

/* Edge-triggered: a socket is polled once per arrival, not again to see that it is empty. */
static void begin(struct life *l)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = l};
    l->began = now_ns();
    l->in.length = 0;
    connection_begin(&l->in.to, opt.host, opt.port, source_of(l));
    l->stage = CONNECTING;
    if (epoll_ctl(poller, EPOLL_CTL_ADD, l->in.to.fd, &event) < 0)
        fail("epoll_ctl: %s", strerror(errno));
}

static void shake_hands(struct life *l)
{
    if (connection_is_ready(&l->in.to))
        l->stage = ASKING;
}

static void write_request(struct life *l)
{
    ssize_t done = connection_send(&l->in.to, request, request_size);
    if (done < 0 && errno == EAGAIN)
        return;
    if (done != (ssize_t)request_size)
        fail("life %d: cannot send the handshake: %s", l->number,
             connection_fault(&l->in.to, done));
    l->stage = UPGRADING;
}

static void write_message(struct life *l)
{
    size_t size = message_frame_size(&text);
    message_stamp_frame(&text, frame, mask, l->number, l->count);
    ssize_t done = connection_send(&l->in.to, frame, size);
    if (done != (ssize_t)size)
        fail("life %d: cannot send: %s", l->number, connection_fault(&l->in.to, done));
    l->stage = ECHOING;
}

static void read_upgrade(struct life *l)
{
    struct inbox *in = &l->in;
    ssize_t got = connection_receive(&in->to, in->bytes + in->length, in->room - in->length);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0)
        fail("life %d: the handshake broke off: %s", l->number, connection_fault(&in->to, got));
    in->length += (size_t)got;
    size_t length = websocket_read_response((const char *)in->bytes, in->length);
    if (length && length != in->length)
        fail("life %d: a message to nobody", l->number);
    if (!length && in->length == in->room)
        fail("life %d: a response that does not end", l->number);
    if (!length) {
        /* Its end, or more, may have come since we were told, which we are told but once. */
        read_upgrade(l);
        return;
    }
    in->length = 0;
    write_message(l);
}

static void accept_close(struct life *l, const struct frame_head *head, const uint8_t *payload)
{
    int code = websocket_close_code(head, payload);
    if (l->stage != CLOSING || code != 1000)
        fail("life %d: the server closed with code %d", l->number, code);
    l->stage = CLOSED;
}

static void accept_frame(void *owner, const struct frame_head *head, const uint8_t *payload,
                         uint64_t now)
{
    struct life *l = owner;
    (void)now;
    if (l->stage == CLOSED)
        fail("life %d: a frame after Close", l->number);
    else if (head->opcode == FRAME_CLOSE)
        accept_close(l, head, payload);
    else if (head->opcode == FRAME_PING)
        websocket_pong(&l->in.to, payload, head->size);
    else if (l->stage == CLOSING)
        fail("life %d: a second echo", l->number);
    else {
        message_check(&text, l->number, l->number, l->count, head, payload);
        websocket_close(&l->in.to);
        l->stage = CLOSING;
    }
}

static void read_frames(struct life *l)
{
    websocket_receive(&l->in, accept_frame, l);
}

static void read_end(struct life *l)
{
    uint8_t byte;
    ssize_t got = connection_receive(&l->in.to, &byte, 1);
    uint64_t now = now_ns();
    if (got < 0 && errno == EAGAIN)
        return;
    if (got)
        fail("life %d: not an end but %s", l->number,
             got < 0 ? connection_fault(&l->in.to, got) : "a byte");
    cut += l->in.to.tls && !l->in.to.parted;
    connection_close(&l->in.to);
    histogram_add(&latencies, now - l->began);
    l->count++;
    l->stage = OVER;
    if (now < end_at)
        begin(l);
    else
        in_progress--;
}

static void stay_over(struct life *l)
{
    (void)l;
}

/* Go through all stages for which something has come. */
static void go_on(struct life *l)
{
    static void (*const act[STAGES])(struct life *) = {
        [CONNECTING] = shake_hands, [ASKING] = write_request, [UPGRADING] = read_upgrade,
        [ECHOING] = read_frames,    [CLOSING] = read_frames,  [CLOSED] = read_end,
        [OVER] = stay_over};
    enum stage before;
    do {
        before = l->stage;
        act[before](l);
    } while (l->stage != before);
}

/* Keep all lives going for `seconds`; then wait for the ends of those in progress. */
static void live_for(double seconds)
{
    struct epoll_event ready[256];
    uint64_t now = now_ns();
    end_at = now + (uint64_t)(seconds * 1e9);
    for (; in_progress < opt.lives && now < end_at; in_progress++)
        begin(&lives[in_progress]);
    while (in_progress) {
        int count = epoll_wait(poller, ready, 256, SILENCE_MS);
        if (count == 0)
            fail("nothing for %d ms with %d lives in progress", SILENCE_MS, in_progress);
        for (int i = 0; i < count; i++)
            go_on(ready[i].data.ptr);
    }
}

static void prepare(void)
{
    text = message_make(opt.size);
    frame = allocate(message_frame_size(&text));
    message_write_frame(&text, frame, mask);
    request_size = websocket_write_request(request, sizeof request, opt.host, opt.port, "/");
    poller = epoll_create1(0);
    lives = allocate(sizeof(struct life) * (size_t)opt.lives);
    for (int i = 0; i < opt.lives; i++) {
        lives[i].number = i;
        lives[i].in.room = opt.size + 4096;
        lives[i].in.bytes = allocate(lives[i].in.room);
    }
}

static void measure(void)
{
    memset(&latencies, 0, sizeof latencies);
    cut = 0;
    uint64_t cpu = own_cpu_ns(), start = now_ns();
    live_for(opt.seconds);
    uint64_t elapsed = now_ns() - start;
    tell_figures(&latencies, elapsed, own_cpu_ns() - cpu);
}

static void read_options(int count, char **words)
{
    static const struct option names[] = {
        {"host", 1, 0, 'h'}, {"port", 1, 0, 'p'},   {"lives", 1, 0, 'l'},  {"sources", 1, 0, 'S'},
        {"size", 1, 0, 'z'}, {"warmup", 1, 0, 'w'}, {"seconds", 1, 0, 't'},
        {"tls", 1, 0, 'T'},  {0, 0, 0, 0}};
    for (int o; (o = getopt_long(count, words, "", names, NULL)) != -1;)
        switch (o) {
        case 'h': opt.host = optarg; break;
        case 'p': opt.port = atoi(optarg); break;
        case 'l': opt.lives = atoi(optarg); break;
        case 'S': opt.sources = atoi(optarg); break;
        case 'z': opt.size = (size_t)atol(optarg); break;
        case 'w': opt.warmup = atof(optarg); break;
        case 't': opt.seconds = atof(optarg); break;
        case 'T': connection_trust(optarg), tls = 1; break;
        default: fail("usage: connect --port P [--host H] [--lives N] [--sources N] "
                      "[--size BYTES] [--warmup SECONDS] [--seconds SECONDS] [--tls CERTIFICATE]");
        }
    if (opt.lives < 1 || opt.sources < 1 || opt.sources > 254 || opt.port < 1)
        fail("needs a port, a life and 1 to 254 sources");
}

int main(int count, char **words)
{
    read_options(count, words);
    srand(1);
    prepare();
    live_for(opt.warmup);
    tell_and_wait("ready");
    measure();
    if (tls)
        printf("{\"without_close_notify\": %llu}\n", (unsigned long long)cut);
    return 0;
}
