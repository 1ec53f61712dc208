/* Downloads: HTTP clients that read long responses as fast as they come.
 *
 * They connect and ask for `/download`; from "ready" and the harness's answer on they read, until
 * it says another line, and who has all of a response asks again. What is told is how much came in
 * that time. Every byte is looked at: the status must be 200, the body in chunks (RFC 9112, 7.1)
 * and nothing but zeros. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "connection.h"
#include "load.h"

#define READ 262144
#define LINE 4096

enum place { HEAD, SIZE, DATA, DATA_END, BODY_END };

struct options {
    const char *host;
    int port, count;
};

struct client {
    int fd;
    enum place place;
    char line[LINE]; /* the head, or the line of a chunk's size, as far as it has come */
    size_t length;
    uint64_t left; /* bytes of the chunk that are still to come */
};

static struct options opt = {"127.0.0.1", 0, 20};
static struct client *clients;
static uint8_t bytes[READ];
static const uint8_t zeros[READ];
static uint64_t body; /* bytes of all bodies */
static int poller;

static void ask(struct client *c)
{
    char head[256];
    int length = snprintf(head, sizeof head, "GET /download HTTP/1.1\r\nHost: %s\r\n\r\n", opt.host);
    if (send(c->fd, head, (size_t)length, MSG_NOSIGNAL) != length)
        fail("cannot send a request: %s", strerror(errno));
    c->place = HEAD;
}

static void open_clients(void)
{
    clients = allocate(sizeof(struct client) * (size_t)opt.count);
    for (int i = 0; i < opt.count; i++) {
        clients[i].fd = tcp_connect(opt.host, opt.port, 0);
        ask(&clients[i]);
        fcntl(clients[i].fd, F_SETFL, O_NONBLOCK);
    }
}

/* Take what belongs to a line that ends so; whether it is whole. */
static int line_is_whole(struct client *c, const char *end, const uint8_t **at, const uint8_t *stop)
{
    size_t size = strlen(end);
    while (*at < stop) {
        if (c->length + 1 >= LINE)
            fail("a line of more than %d bytes", LINE);
        c->line[c->length++] = (char)*(*at)++;
        if (c->length >= size && memcmp(c->line + c->length - size, end, size) == 0) {
            c->line[c->length] = 0;
            c->length = 0;
            return 1;
        }
    }
    return 0;
}

static int ends_here(struct client *c, const uint8_t **at, const uint8_t *stop)
{
    if (!line_is_whole(c, "\r\n", at, stop))
        return 0;
    if (strcmp(c->line, "\r\n") != 0)
        fail("a chunk without its end, or a trailer");
    return 1;
}

static void begin_chunk(struct client *c)
{
    char *end;
    c->left = strtoull(c->line, &end, 16);
    if (end == c->line)
        fail("no chunk: %.20s", c->line);
    c->place = c->left ? DATA : BODY_END;
}

static void take_data(struct client *c, const uint8_t **at, const uint8_t *stop)
{
    size_t size = (size_t)(stop - *at) < c->left ? (size_t)(stop - *at) : (size_t)c->left;
    if (memcmp(*at, zeros, size) != 0)
        fail("a body with other bytes than were sent");
    *at += size;
    body += size;
    c->left -= size;
    if (c->left == 0)
        c->place = DATA_END;
}

static void take(struct client *c, const uint8_t *at, const uint8_t *stop)
{
    while (at < stop)
        switch (c->place) {
        case HEAD:
            if (line_is_whole(c, "\r\n\r\n", &at, stop)) {
                if (strncmp(c->line, "HTTP/1.1 200", 12) != 0)
                    fail("not HTTP/1.1 200: %.40s", c->line);
                c->place = SIZE;
            }
            break;
        case SIZE:
            if (line_is_whole(c, "\r\n", &at, stop))
                begin_chunk(c);
            break;
        case DATA: take_data(c, &at, stop); break;
        case DATA_END:
            if (ends_here(c, &at, stop))
                c->place = SIZE;
            break;
        case BODY_END:
            if (ends_here(c, &at, stop))
                ask(c);
        }
}

static void read_some(struct client *c)
{
    ssize_t size = recv(c->fd, bytes, sizeof bytes, 0);
    if (size == 0 || (size < 0 && errno != EAGAIN))
        fail("a download has ended: %s", size ? strerror(errno) : "closed");
    if (size > 0)
        take(c, bytes, bytes + size);
}

static void watch(int fd, struct client *c)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0)
        fail("epoll_ctl: %s", strerror(errno));
}

/* Read what comes, until the harness says a line. */
static void read_until_told(void)
{
    struct epoll_event ready[256];
    poller = epoll_create1(0);
    for (int i = 0; i < opt.count; i++)
        watch(clients[i].fd, &clients[i]);
    watch(STDIN_FILENO, NULL);
    for (;;) {
        int count = epoll_wait(poller, ready, 256, -1);
        for (int i = 0; i < count; i++) {
            if (!ready[i].data.ptr)
                return wait_for_line();
            read_some(ready[i].data.ptr);
        }
    }
}

static void read_options(int count, char **words)
{
    static const struct option known[] = {
        {"host", 1, 0, 'h'}, {"port", 1, 0, 'p'}, {"count", 1, 0, 'n'}, {0, 0, 0, 0}};
    for (int o; (o = getopt_long(count, words, "", known, NULL)) != -1;)
        switch (o) {
        case 'h': opt.host = optarg; break;
        case 'p': opt.port = atoi(optarg); break;
        case 'n': opt.count = atoi(optarg); break;
        default: fail("usage: download --port P [--host H] [--count N]");
        }
    if (opt.count < 1 || opt.port < 1)
        fail("needs a port, and one client at least");
}

int main(int count, char **words)
{
    read_options(count, words);
    setvbuf(stdin, NULL, _IONBF, 0); /* what is not read yet must wake epoll */
    open_clients();
    tell_and_wait("ready");
    uint64_t cpu = own_cpu_ns(), start = now_ns();
    read_until_told();
    tell_and_wait("{\"bytes\": %llu, \"seconds\": %.6f, \"generator_cpu_s\": %.6f}",
                  (unsigned long long)body, (double)(now_ns() - start) / 1e9,
                  (double)(own_cpu_ns() - cpu) / 1e9);
    return 0;
}
