#include "connection.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include "load.h"

/* Connections from one address: the kernel has some 28 000 ports for each, and those of
 * connections that are closed stay taken for a while. */
#define FROM_ONE_ADDRESS 8192

#define HANDSHAKE_SECONDS 10

static SSL_CTX *trust; /* NULL: no TLS */
static BIO_METHOD *below;

static struct sockaddr_in address_of(const char *host, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1)
        fail("%s is not an IPv4 address", host);
    return address;
}

/* The port is chosen when the other side is known, so that each source has all ports for it. */
static void bind_source(int fd, int source)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    int on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK - 1 + (in_addr_t)source);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
        fail("cannot bind to 127.0.0.%d: %s", source, strerror(errno));
}

int tcp_connect(const char *host, int port, int buffer)
{
    static int count;
    struct sockaddr_in address = address_of(host, port);
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    if (fd >= 0 && ntohl(address.sin_addr.s_addr) == INADDR_LOOPBACK)
        bind_source(fd, 1 + count++ / FROM_ONE_ADDRESS);
    if (buffer) /* before the handshake, which tells the window */
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        fail("cannot connect to %s:%d: %s", host, port, strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

int tcp_begin(const char *host, int port, int source)
{
    struct sockaddr_in address = address_of(host, port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    if (fd >= 0 && source)
        bind_source(fd, source);
    if (fd < 0 || (connect(fd, (struct sockaddr *)&address, sizeof address) < 0 &&
                   errno != EINPROGRESS))
        fail("cannot connect to %s:%d: %s", host, port, strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static int noted(BIO *bio, struct connection *c, ssize_t done, int retry)
{
    c->error = done < 0 ? errno : 0;
    BIO_clear_retry_flags(bio);
    if (done < 0 && errno == EAGAIN)
        BIO_set_flags(bio, retry | BIO_FLAGS_SHOULD_RETRY);
    return (int)done;
}

static int write_below(BIO *bio, const char *bytes, int size)
{
    struct connection *c = BIO_get_data(bio);
    ssize_t done = send(c->fd, bytes, (size_t)size, MSG_NOSIGNAL);
    return noted(bio, c, done, BIO_FLAGS_WRITE);
}

/* TLS asks for as much as it has room for, and then again: a read that brought less was the last
 * until the next edge, without a look at the empty socket. */
static int read_below(BIO *bio, char *bytes, int room)
{
    struct connection *c = BIO_get_data(bio);
    ssize_t got = -1;
    errno = EAGAIN;
    if (!c->drained)
        got = recv(c->fd, bytes, (size_t)room, 0);
    c->drained = !c->waits && got < room;
    c->ended |= got == 0;
    return noted(bio, c, got, BIO_FLAGS_READ);
}

static long control_below(BIO *bio, int command, long number, void *pointer)
{
    const struct connection *c = BIO_get_data(bio);
    (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH || (command == BIO_CTRL_EOF && c->ended);
}

/* That very certificate is believed and no other; nothing else is to be verified but, by OpenSSL,
 * that the server has its key. */
static int is_shown(X509_STORE_CTX *shown, void *expected)
{
    if (X509_cmp(X509_STORE_CTX_get0_cert(shown), expected) == 0)
        return 1;
    X509_STORE_CTX_set_error(shown, X509_V_ERR_CERT_REJECTED);
    return 0;
}

static X509 *read_certificate(const char *path)
{
    BIO *file = BIO_new_file(path, "r");
    X509 *certificate = file ? PEM_read_bio_X509(file, NULL, NULL, NULL) : NULL;
    if (!certificate)
        fail("cannot read the certificate %s", path);
    BIO_free(file);
    return certificate;
}

void connection_trust(const char *certificate)
{
    trust = SSL_CTX_new(TLS_client_method());
    below = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "socket");
    if (!trust || !below || !BIO_meth_set_write(below, write_below) ||
        !BIO_meth_set_read(below, read_below) || !BIO_meth_set_ctrl(below, control_below))
        fail("no memory for TLS");
    if (!SSL_CTX_set_min_proto_version(trust, TLS1_3_VERSION) ||
        !SSL_CTX_set_ciphersuites(trust, "TLS_AES_128_GCM_SHA256") ||
        !SSL_CTX_set1_groups_list(trust, "X25519"))
        fail("this OpenSSL has no TLS 1.3 of the kind that is measured");
    SSL_CTX_set_verify(trust, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_cert_verify_callback(trust, is_shown, read_certificate(certificate));
    SSL_CTX_set_session_cache_mode(trust, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_mode(trust, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(trust, 1);
}

static void begin_tls(struct connection *c)
{
    BIO *bio = BIO_new(below);
    c->tls = SSL_new(trust);
    if (!bio || !c->tls)
        fail("no memory for TLS");
    BIO_set_data(bio, c);
    BIO_set_init(bio, 1);
    SSL_set_bio(c->tls, bio, bio);
    SSL_set_connect_state(c->tls);
}

static void begin(struct connection *c, int fd, int waits)
{
    *c = (struct connection){.fd = fd, .waits = waits};
    if (trust)
        begin_tls(c);
}

void connection_begin(struct connection *c, const char *host, int port, int source)
{
    begin(c, tcp_begin(host, port, source), 0);
}

void connection_open(struct connection *c, const char *host, int port, int buffer)
{
    struct timeval limit = {.tv_sec = HANDSHAKE_SECONDS}, none = {0};
    begin(c, tcp_connect(host, port, buffer), 1);
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    if (!connection_is_ready(c))
        fail("no handshake of TLS within %d s", HANDSHAKE_SECONDS);
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none);
}

void connection_wait(struct connection *c, int waits)
{
    c->waits = waits;
    fcntl(c->fd, F_SETFL, waits ? 0 : O_NONBLOCK);
}

/* After close_notify nothing is due but TCP's end, or its reset, where the server did not wait for
 * our close_notify. */
static ssize_t part(struct connection *c)
{
    char byte;
    if (!c->parted)
        SSL_shutdown(c->tls);
    ERR_clear_error();
    c->parted = 1;
    ssize_t got = recv(c->fd, &byte, 1, 0);
    c->ended = got == 0 || (got < 0 && errno == ECONNRESET);
    if (got > 0) {
        c->fault = "bytes after close_notify";
        errno = EPROTO;
    }
    return c->ended ? 0 : -1;
}

/* Why the certificate does not do, where it does not, or else what OpenSSL says. */
static const char *reason(const struct connection *c)
{
    long verdict = SSL_get_verify_result(c->tls);
    const char *said = ERR_reason_error_string(ERR_peek_error());
    if (verdict != X509_V_OK)
        return X509_verify_cert_error_string(verdict);
    return said ? said : "TLS failed";
}

/* What a call of OpenSSL that did nothing stands for: 0 at the end, or -1 and errno. */
static ssize_t outcome(struct connection *c, int result)
{
    int error = SSL_get_error(c->tls, result);
    if (c->ended) {
        ERR_clear_error();
        return 0;
    }
    switch (error) {
    case SSL_ERROR_ZERO_RETURN:
        return part(c);
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        errno = EAGAIN;
        return -1;
    case SSL_ERROR_SYSCALL:
        c->fault = strerror(c->error);
        break;
    default:
        c->fault = reason(c);
    }
    ERR_clear_error();
    errno = EPROTO;
    return -1;
}

int connection_is_ready(struct connection *c)
{
    if (!c->tls || SSL_is_init_finished(c->tls))
        return 1;
    c->drained = 0;
    int result = SSL_do_handshake(c->tls);
    if (result == 1)
        return 1;
    if (outcome(c, result) == 0 || errno != EAGAIN)
        fail("the handshake of TLS failed: %s", c->ended ? "end of file" : c->fault);
    return 0;
}

ssize_t connection_send(struct connection *c, const void *bytes, size_t size)
{
    size_t done;
    if (!c->tls)
        return send(c->fd, bytes, size, MSG_NOSIGNAL);
    int result = SSL_write_ex(c->tls, bytes, size, &done);
    return result == 1 ? (ssize_t)done : outcome(c, result);
}

ssize_t connection_send_parts(struct connection *c, struct iovec *parts, size_t count)
{
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
    if (!c->tls)
        return sendmsg(c->fd, &message, MSG_NOSIGNAL);
    return connection_send(c, parts[0].iov_base, parts[0].iov_len);
}

/* A record at a time, until there is no room or nothing left; one alone where we wait. */
static ssize_t read_records(struct connection *c, char *bytes, size_t room)
{
    size_t got = 0, more;
    c->drained = 0;
    do {
        int result = SSL_read_ex(c->tls, bytes + got, room - got, &more);
        if (result != 1) {
            ssize_t end = outcome(c, result);
            return got ? (ssize_t)got : end;
        }
        got += more;
    } while (got < room && !c->waits);
    return (ssize_t)got;
}

ssize_t connection_receive(struct connection *c, void *bytes, size_t room)
{
    if (!c->tls)
        return recv(c->fd, bytes, room, 0);
    if (c->ended)
        return 0;
    errno = EPROTO;
    return c->fault ? -1 : c->parted ? part(c) : read_records(c, bytes, room);
}

const char *connection_fault(const struct connection *c, ssize_t result)
{
    if (result >= 0)
        return c->tls && !c->parted ? "end of file without close_notify" : "end of file";
    return c->fault ? c->fault : strerror(errno);
}

void connection_close(struct connection *c)
{
    SSL_free(c->tls); /* or nothing, where there is none */
    close(c->fd);
}

void connection_reset(struct connection *c)
{
    struct linger now = {.l_onoff = 1};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    connection_close(c);
}
