/* A client's connection: TCP, or TLS 1.3 over it, which who uses it need not know apart. Its calls
 * wait for the server or, once it is told not to wait, return at once; then it is polled by epoll,
 * edge-triggered: `connection_receive` takes all that there is room for, so a buffer that was not
 * filled says that nothing is left until the next edge.
 * Knows nothing of what the bytes mean. */
#ifndef CONNECTION_H
#define CONNECTION_H

#include <stddef.h>
#include <sys/types.h>

struct iovec;

struct connection {
    int fd;
    int waits;         /* for the server, as connection_open leaves it */
    struct ssl_st *tls; /* NULL: TCP alone */
    int drained;       /* the kernel had no more bytes when we last looked */
    int ended;         /* TCP's end has come */
    int parted;        /* the server's close_notify has come, and ours is sent */
    int error;         /* errno of the last read or write below TLS */
    const char *fault; /* of TLS; no byte is believed after it */
};

/* Have all connections that follow speak TLS with a server that has this certificate, and make a
 * full handshake each: TLS 1.3, TLS_AES_128_GCM_SHA256, X25519, whatever the server would rather. */
void connection_trust(const char *certificate);

/* Connect to host:port with TCP_NODELAY, from an address of the loopback that has ports left, and
 * shake hands; `buffer` bytes to receive into, 0: as the kernel likes. Fails when that fails. */
void connection_open(struct connection *c, const char *host, int port, int buffer);

/* Begin that without waiting for it, from 127.0.0.SOURCE; 0: as the kernel likes. The connection
 * must stay where it is. */
void connection_begin(struct connection *c, const char *host, int port, int source);

/* Whether the handshake is over, going on with it. Of TCP alone it always is, and a send says
 * whether that is connected. */
int connection_is_ready(struct connection *c);

void connection_wait(struct connection *c, int waits);

/* As send(2): how many bytes were taken, or -1. After EAGAIN the same bytes must follow, maybe
 * more, from wherever they lie then. Of several parts TLS takes the first alone. */
ssize_t connection_send(struct connection *c, const void *bytes, size_t size);
ssize_t connection_send_parts(struct connection *c, struct iovec *parts, size_t count);

/* As recv(2): how many bytes there are, 0 at TCP's end, or -1. TLS has an end of its own before it, a
 * close_notify, which is answered by ours; `parted` says whether it came. */
ssize_t connection_receive(struct connection *c, void *bytes, size_t room);

/* What the last failure was; after a call that returned 0 or less. */
const char *connection_fault(const struct connection *c, ssize_t result);

void connection_close(struct connection *c);

/* End a connection without a word. */
void connection_reset(struct connection *c);

/* A TCP connection alone: that of connection_open, and that of connection_begin. */
int tcp_connect(const char *host, int port, int buffer);
int tcp_begin(const char *host, int port, int source);

#endif
