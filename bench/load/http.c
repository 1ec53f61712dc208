/* HTTP load: many connections that are kept alive, a fixed number of requests in flight on each,
 * every response compared with what is due: status, length and each byte of the body.
 *
 * Requests are numbered over all connections. A '#' in the path and in the body that is expected
 * stands for the number, so that a response which is meant for another request is an error.
 * With a size, a request is a POST of a numbered text of so many bytes (load/message.h), and the
 * response must be the same. Latency runs from just before the write to just after the read; with
 * an interval, from when the request was due (load/pace.h).
 *
 * A response is framed by its length or by chunks. One that ends its connection is an error,
 * since a new connection is another thing to measure (load/connect.c).
 *
 * Knows nothing of servers or CPU of others; that is the harness's side (see load.h). */
#define _GNU_SOURCE /* memmem */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>

#include "connection.h"
#include "histogram.h"
#include "load.h"
#include "message.h"
#include "pace.h"

#define SILENCE_MS 5000
#define HEAD_ROOM 4096
#define NUMBER_ROOM 20
#define CHUNKED SIZE_MAX

struct options {
    const char *host, *path, *expect;
    int port, sockets, depth;
    size_t size;
    double warmup, seconds;
    double interval; /* milliseconds between a connection's requests; 0: as fast as it answers */
};

struct client {
    int number;
    struct connection to;
    uint64_t made, replied; /* requests */
    uint64_t *sent_at;      /* depth times */
    uint64_t due;           /* when the next request is, with an interval */
    char *out;              /* what is made and not written yet */
    size_t out_length;
    char *in;               /* what has come and is not judged yet */
    size_t in_length;
};

static struct options opt = {"127.0.0.1", "/", "", 0, 64, 1, 0, 0.5, 3.0, 0};
static struct client *clients;
static struct histogram latencies;
static struct message text;
static struct pace pace;
static char head[HEAD_ROOM]; /* of each request, with '#' for its number */
static char *expected, *body; /* as it is due, and as it came in chunks */
static size_t out_room, in_room, body_room;
static int poller;

/* Copy and put the number where a '#' stands; returns the length. */
static size_t render(char *out, const char *with, uint64_t number)
{
    char digits[NUMBER_ROOM], *at = out;
    size_t count = 0;
    do
        digits[count++] = (char)('0' + number % 10);
    while (number /= 10);
    for (; *with; with++)
        if (*with != '#')
            *at++ = *with;
        else
            for (size_t i = count; i > 0; i--)
                *at++ = digits[i - 1];
    return (size_t)(at - out);
}

static size_t most_rendered(const char *with)
{
    size_t room = 1;
    for (; *with; with++)
        room += *with == '#' ? NUMBER_ROOM : 1;
    return room;
}

static uint64_t number_of(const struct client *c, uint64_t count)
{
    return count * (uint64_t)opt.sockets + (uint64_t)c->number;
}

static size_t render_text(char *out, const struct client *c, uint64_t count)
{
    message_stamp(out, c->number, count);
    memcpy(out + STAMP, text.text + STAMP, text.size - STAMP);
    return text.size;
}

/* The body that is due for a request, in `expected`. */
static size_t render_expected(const struct client *c, uint64_t count)
{
    if (opt.size)
        return render_text(expected, c, count);
    return render(expected, opt.expect, number_of(c, count));
}

static void flush(struct client *c)
{
    while (c->out_length) {
        ssize_t done = connection_send(&c->to, c->out, c->out_length);
        if (done < 0 && errno != EAGAIN)
            fail("connection %d: cannot send: %s", c->number, connection_fault(&c->to, done));
        if (done < 0)
            return;
        c->out_length -= (size_t)done;
        memmove(c->out, c->out + done, c->out_length);
    }
}

static void fill(struct client *c, uint64_t now)
{
    for (; c->made - c->replied < (uint64_t)opt.depth && c->due <= now; c->made++) {
        c->out_length += render(c->out + c->out_length, head, number_of(c, c->made));
        if (opt.size)
            c->out_length += render_text(c->out + c->out_length, c, c->made);
        c->sent_at[c->made % (uint64_t)opt.depth] = pace.step ? c->due : now;
        c->due += pace_interval(&pace);
    }
    flush(c);
}

static void wrong(const struct client *c, const char *what, const char *seen, size_t length)
    __attribute__((noreturn));

static void wrong(const struct client *c, const char *what, const char *seen, size_t length)
{
    fail("connection %d, request %llu: %s: %.*s", c->number,
         (unsigned long long)number_of(c, c->replied), what, (int)(length < 200 ? length : 200),
         seen);
}

/* The value of a field of this name on a line of a head, or NULL. */
static const char *field(const char *line, const char *name)
{
    size_t length = strlen(name);
    if (strncasecmp(line, name, length) != 0 || line[length] != ':')
        return NULL;
    return line + length + 1 + strspn(line + length + 1, " \t");
}

static size_t read_length(const struct client *c, const char *value)
{
    char *end;
    errno = 0;
    unsigned long long length = strtoull(value, &end, 10);
    if (*value < '0' || *value > '9' || errno || *end != '\r')
        wrong(c, "a length that is no number", value, strcspn(value, "\r"));
    return (size_t)length;
}

/* Judge a whole head; returns the length of the body, or CHUNKED. */
static size_t read_head(const struct client *c, const char *in, size_t size)
{
    size_t length = 0;
    int framed = 0;
    if (strncmp(in, "HTTP/1.1 200", 12) != 0 || (in[12] != ' ' && in[12] != '\r'))
        wrong(c, "not HTTP/1.1 200", in, strcspn(in, "\r"));
    const char *last = in + size - 2, *value; /* the empty line */
    for (const char *line = in; line < last; line = (char *)memchr(line, '\n', size) + 1)
        if ((value = field(line, "content-length"))) {
            length = read_length(c, value);
            framed++;
        } else if ((value = field(line, "transfer-encoding"))) {
            if (strncasecmp(value, "chunked\r", 8) != 0)
                wrong(c, "a coding that was not asked for", value, strcspn(value, "\r"));
            length = CHUNKED;
            framed++;
        } else if ((value = field(line, "connection")) && strncasecmp(value, "close", 5) == 0) {
            wrong(c, "the server ends the connection", line, strcspn(line, "\r"));
        }
    if (framed != 1)
        wrong(c, "a body without one length", in, size);
    return length;
}

/* Put chunks together in `body`; returns how many bytes they took, 0 when more are needed. */
static size_t read_chunks(const struct client *c, const char *in, size_t available, size_t *length)
{
    size_t at = 0;
    *length = 0;
    for (;;) {
        const char *line = in + at, *end = memmem(line, available - at, "\r\n", 2);
        if (!end)
            return 0;
        char *stop;
        size_t size = strtoul(line, &stop, 16);
        if (stop == line || (*stop != '\r' && *stop != ';') || size > body_room - *length)
            wrong(c, "a wrong chunk", line, (size_t)(end - line));
        at = (size_t)(end + 2 - in);
        if (available - at < size + 2)
            return 0;
        memcpy(body + *length, in + at, size);
        *length += size;
        if (memcmp(in + at + size, "\r\n", 2) != 0)
            wrong(c, "a chunk without its end, or a trailer", in + at, available - at);
        at += size + 2;
        if (size == 0)
            return at;
    }
}

static void check_body(const struct client *c, const char *got, size_t length)
{
    size_t due = render_expected(c, c->replied);
    if (length == due && memcmp(got, expected, due) == 0)
        return;
    fail("connection %d, request %llu: expected %zu bytes: %.*s, got %zu: %.*s", c->number,
         (unsigned long long)number_of(c, c->replied), due, (int)(due < 80 ? due : 80), expected,
         length, (int)(length < 80 ? length : 80), got);
}

/* Judge the response at the start of `in`; returns its length, 0 when more is needed. */
static size_t take_response(struct client *c, const char *in, size_t available, uint64_t now)
{
    if (c->replied == c->made)
        wrong(c, "a response to nothing", in, available);
    const char *end = memmem(in, available, "\r\n\r\n", 4);
    if (!end)
        return 0;
    size_t size = (size_t)(end + 4 - in), length = read_head(c, in, size), taken = length;
    const char *got = in + size;
    if (length == CHUNKED) {
        taken = read_chunks(c, got, available - size, &length);
        got = body;
    } else if (length > body_room) {
        wrong(c, "a body that is longer than what is due", in, size);
    }
    if (available - size < taken || (got == body && !taken))
        return 0;
    check_body(c, got, length);
    histogram_add(&latencies, now - c->sent_at[c->replied % (uint64_t)opt.depth]);
    c->replied++;
    return size + taken;
}

/* Read once and judge what is whole; whether the buffer was filled, so that there may be more. */
static int receive(struct client *c)
{
    size_t room = in_room - c->in_length, at = 0, taken;
    ssize_t got = connection_receive(&c->to, c->in + c->in_length, room);
    uint64_t now = now_ns();
    if (got < 0 && errno == EAGAIN)
        return 0;
    if (got <= 0)
        fail("connection %d: the server hung up: %s", c->number, connection_fault(&c->to, got));
    c->in_length += (size_t)got;
    c->in[c->in_length] = 0;
    while (at < c->in_length && (taken = take_response(c, c->in + at, c->in_length - at, now)))
        at += taken;
    if (at == 0 && c->in_length == in_room)
        wrong(c, "a response that is longer than anything that is due", c->in, in_room);
    c->in_length -= at;
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
    while (receive(&clients[socket]))
        ;
}

static void request_for(double seconds)
{
    static const struct paced paced = {begin,       fill_one,  flush_one,
                                        receive_all, in_flight, "response"};
    pace_run(&pace, &paced, poller, seconds, SILENCE_MS);
}

/* Edge-triggered: a socket is polled once per arrival, not again to see that it is empty. */
static void open_client(struct client *c, int number)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET,
                                .data.u32 = (uint32_t)number};
    c->number = number;
    c->sent_at = allocate(sizeof(uint64_t) * (size_t)opt.depth);
    c->out = allocate(out_room);
    c->in = allocate(in_room + 1); /* and a 0, so that a head ends as a string does */
    connection_open(&c->to, opt.host, opt.port, 0);
    connection_wait(&c->to, 0);
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->to.fd, &event) < 0)
        fail("epoll_ctl: %s", strerror(errno));
}

static void write_head(void)
{
    char rest[128] = "";
    if (opt.size)
        snprintf(rest, sizeof rest,
                 "Content-Type: application/octet-stream\r\nContent-Length: %zu\r\n", opt.size);
    int length = snprintf(head, sizeof head, "%s %s HTTP/1.1\r\nHost: %s:%d\r\n%s\r\n",
                          opt.size ? "POST" : "GET", opt.path, opt.host, opt.port, rest);
    if (length >= (int)sizeof head)
        fail("the path is too long");
}

static void open_clients(void)
{
    write_head();
    if (opt.size)
        text = message_make(opt.size);
    body_room = opt.size ? opt.size : most_rendered(opt.expect);
    expected = allocate(body_room);
    body = allocate(body_room);
    out_room = (most_rendered(head) + opt.size) * (size_t)opt.depth;
    in_room = (HEAD_ROOM + body_room) * (size_t)opt.depth;
    poller = epoll_create1(0);
    pace = pace_make(opt.interval, opt.sockets);
    clients = allocate(sizeof(struct client) * (size_t)opt.sockets);
    for (int i = 0; i < opt.sockets; i++)
        open_client(&clients[i], i);
}

static void measure(void)
{
    memset(&latencies, 0, sizeof latencies);
    uint64_t cpu = own_cpu_ns(), start = now_ns();
    request_for(opt.seconds);
    uint64_t elapsed = now_ns() - start;
    tell_figures(&latencies, elapsed, own_cpu_ns() - cpu);
}

static void read_options(int count, char **words)
{
    static const struct option names[] = {
        {"host", 1, 0, 'h'},  {"port", 1, 0, 'p'},   {"path", 1, 0, 'P'},    {"expect", 1, 0, 'e'},
        {"size", 1, 0, 'z'},  {"sockets", 1, 0, 's'}, {"depth", 1, 0, 'd'},
        {"warmup", 1, 0, 'w'}, {"seconds", 1, 0, 't'}, {"interval", 1, 0, 'i'},
        {"tls", 1, 0, 'T'},   {0, 0, 0, 0}};
    for (int o; (o = getopt_long(count, words, "", names, NULL)) != -1;)
        switch (o) {
        case 'h': opt.host = optarg; break;
        case 'p': opt.port = atoi(optarg); break;
        case 'P': opt.path = optarg; break;
        case 'e': opt.expect = optarg; break;
        case 'z': opt.size = (size_t)atol(optarg); break;
        case 's': opt.sockets = atoi(optarg); break;
        case 'd': opt.depth = atoi(optarg); break;
        case 'w': opt.warmup = atof(optarg); break;
        case 't': opt.seconds = atof(optarg); break;
        case 'i': opt.interval = atof(optarg); break;
        case 'T': connection_trust(optarg); break;
        default: fail("usage: http --port P [--host H] [--path PATH] [--expect BODY | --size BYTES] "
                      "[--sockets N] [--depth N] [--warmup SECONDS] [--seconds SECONDS] "
                      "[--interval MILLISECONDS] [--tls CERTIFICATE]");
        }
    if (opt.sockets < 1 || opt.depth < 1 || opt.port < 1)
        fail("needs a port, a connection and a depth of 1 at least");
}

int main(int count, char **words)
{
    read_options(count, words);
    srand(1);
    open_clients();
    request_for(opt.warmup);
    tell_and_wait("ready");
    measure();
    return 0;
}
