/* Hostile load: clients that take from a server what they can and give it nothing back.
 *
 *   deaf        a WebSocket that never reads, while the app sends it all it has
 *   flood       a WebSocket that sends without end to an app that does not receive
 *   download    an HTTP client that asks for much and does not read the response
 *   upload      an HTTP client that sends much to an app that does not read the request
 *
 * So many of each. They connect, and from then on a deaf client and a download cost this
 * program nothing; floods and uploads write whatever the server takes, up to `bytes` each,
 * from "ready" and the harness's answer on until it says another line.
 *
 * It does not believe that it was hostile: a client that the server has ended, a reader for
 * whom nothing waits, and a writer from whom the server took nothing are counted. */
#define _GNU_SOURCE /* POLLRDHUP */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"
#include "websocket.h"

#define CHUNK 65536

enum kind { DEAF, FLOOD, DOWNLOAD, UPLOAD, KINDS };

static const char *const names[KINDS] = {"deaf", "flood", "download", "upload"};

struct options {
    const char *host;
    int port, count; /* clients of each kind */
    uint64_t bytes;
};

struct client {
    enum kind kind;
    int fd, gone;
    uint64_t written; /* bytes of the attack */
};

static struct options opt = {"127.0.0.1", 0, 50, 1ull << 30};
static struct client *clients;
static uint8_t flood_frame[CLIENT_HEAD_MAX + CHUNK];
static uint8_t upload_part[CHUNK];
static size_t flood_size;
static int poller;

static int is_writer(const struct client *c)
{
    return c->kind == FLOOD || c->kind == UPLOAD;
}

static int connect_websocket(const struct client *c)
{
    struct connection to;
    char path[32];
    snprintf(path, sizeof path, "/%s", names[c->kind]);
    connection_open(&to, opt.host, opt.port, 0);
    websocket_ask(&to, opt.host, opt.port, path);
    websocket_await_upgrade(&to);
    return to.fd;
}

static int connect_http(const struct client *c)
{
    char head[256];
    int length = snprintf(head, sizeof head, "%s /%s HTTP/1.1\r\nHost: %s\r\n",
                          c->kind == UPLOAD ? "POST" : "GET", names[c->kind], opt.host);
    if (c->kind == UPLOAD)
        length += snprintf(head + length, sizeof head - (size_t)length,
                           "Content-Length: %llu\r\n", (unsigned long long)opt.bytes);
    length += snprintf(head + length, sizeof head - (size_t)length, "\r\n");
    int fd = tcp_connect(opt.host, opt.port, 0);
    if (send(fd, head, (size_t)length, MSG_NOSIGNAL) != length)
        fail("cannot send a request: %s", strerror(errno));
    return fd;
}

static void open_clients(void)
{
    struct client *c = clients = allocate(sizeof(struct client) * KINDS * (size_t)opt.count);
    for (enum kind k = 0; k < KINDS; k++)
        for (int i = 0; i < opt.count; i++, c++) {
            c->kind = k;
            c->fd = c->kind == DEAF || c->kind == FLOOD ? connect_websocket(c) : connect_http(c);
            fcntl(c->fd, F_SETFL, O_NONBLOCK);
        }
}

/* The next bytes of a writer: a flood's frame from where it stopped, or a part of a body. */
static ssize_t write_some(struct client *c)
{
    uint64_t left = opt.bytes - c->written;
    size_t from = c->kind == FLOOD ? (size_t)(c->written % flood_size) : 0;
    size_t size = c->kind == FLOOD ? flood_size - from : left < CHUNK ? (size_t)left : CHUNK;
    return send(c->fd, (c->kind == FLOOD ? flood_frame : upload_part) + from, size, MSG_NOSIGNAL);
}

static void attack(struct client *c)
{
    while (!c->gone && c->written < opt.bytes) {
        ssize_t done = write_some(c);
        if (done < 0 && errno == EAGAIN)
            return;
        c->gone = done < 0;
        c->written += done < 0 ? 0 : (uint64_t)done;
    }
}

static void watch_writers(void)
{
    poller = epoll_create1(0);
    for (int i = 0; i < KINDS * opt.count; i++) {
        struct epoll_event event = {.events = EPOLLOUT | EPOLLET, .data.ptr = &clients[i]};
        if (is_writer(&clients[i]) && epoll_ctl(poller, EPOLL_CTL_ADD, clients[i].fd, &event) < 0)
            fail("epoll_ctl: %s", strerror(errno));
    }
    struct epoll_event stop = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &stop) < 0)
        fail("epoll_ctl: %s", strerror(errno));
}

/* Write what is taken, until the harness says a line. */
static void attack_until_told(void)
{
    struct epoll_event ready[256];
    watch_writers();
    for (;;) {
        int count = epoll_wait(poller, ready, 256, -1);
        for (int i = 0; i < count; i++) {
            if (!ready[i].data.ptr)
                return wait_for_line();
            attack(ready[i].data.ptr);
        }
    }
}

static int waiting_at(const struct client *c)
{
    int bytes = 0;
    return ioctl(c->fd, FIONREAD, &bytes) < 0 ? 0 : bytes;
}

/* The server has ended it, by a reset or after what waits. */
static int is_gone(const struct client *c)
{
    struct pollfd hung = {.fd = c->fd, .events = POLLRDHUP};
    return c->gone || (poll(&hung, 1, 0) > 0 && hung.revents & (POLLRDHUP | POLLHUP | POLLERR));
}

static int tell_kind(char *out, size_t room, enum kind kind)
{
    uint64_t written = 0, waiting = 0;
    int gone = 0, idle = 0;
    for (int i = 0; i < KINDS * opt.count; i++) {
        const struct client *c = &clients[i];
        if (c->kind != kind)
            continue;
        gone += is_gone(c);
        idle += is_writer(c) ? c->written == 0 : waiting_at(c) == 0;
        written += c->written;
        waiting += (uint64_t)waiting_at(c);
    }
    return snprintf(out, room,
                    "\"%s\": {\"gone\": %d, \"idle\": %d, \"written\": %llu, \"waiting\": %llu}, ",
                    names[kind], gone, idle, (unsigned long long)written,
                    (unsigned long long)waiting);
}

static void tell(uint64_t elapsed_ns, uint64_t cpu_ns)
{
    char kinds[1024];
    int length = 0;
    for (enum kind k = 0; k < KINDS; k++)
        length += tell_kind(kinds + length, sizeof kinds - (size_t)length, k);
    tell_and_wait("{%s\"seconds\": %.6f, \"generator_cpu_s\": %.6f}", kinds,
                  (double)elapsed_ns / 1e9, (double)cpu_ns / 1e9);
}

static void read_options(int count, char **words)
{
    static const struct option known[] = {{"host", 1, 0, 'h'},
                                          {"port", 1, 0, 'p'},
                                          {"count", 1, 0, 'n'},
                                          {"bytes", 1, 0, 'b'},
                                          {0, 0, 0, 0}};
    for (int o; (o = getopt_long(count, words, "", known, NULL)) != -1;)
        switch (o) {
        case 'h': opt.host = optarg; break;
        case 'p': opt.port = atoi(optarg); break;
        case 'n': opt.count = atoi(optarg); break;
        case 'b': opt.bytes = strtoull(optarg, NULL, 10); break;
        default: fail("usage: hostile --port P [--host H] [--count N] [--bytes N]");
        }
    if (opt.count < 1 || opt.port < 1)
        fail("needs a port, and a client of each kind at least");
}

int main(int count, char **words)
{
    static const uint8_t mask[4] = {0x5c, 0xa3, 0x17, 0xe9};
    read_options(count, words);
    setvbuf(stdin, NULL, _IONBF, 0); /* what is not read yet must wake epoll */
    flood_size = websocket_write_head(flood_frame, FRAME_BINARY, CHUNK, mask) + CHUNK;
    open_clients();
    tell_and_wait("ready");
    uint64_t cpu = own_cpu_ns(), start = now_ns();
    attack_until_told();
    tell(now_ns() - start, own_cpu_ns() - cpu);
    return 0;
}
