#define _GNU_SOURCE /* epoll_pwait2 */
#include "pace.h"

#include <stddef.h>
#include <sys/epoll.h>
#include <time.h>

#include "load.h"

struct pace pace_make(double interval, int sockets)
{
    struct pace pace = {(uint64_t)(interval * 1e6) / (uint64_t)sockets, sockets, 0, 0};
    return pace;
}

uint64_t pace_interval(const struct pace *pace)
{
    return pace->step * (uint64_t)pace->sockets;
}

/* The number of a connection whose message is due by `now`, one after the other, or -1. */
static int pace_next(struct pace *pace, uint64_t now)
{
    int socket = pace->socket;
    if (pace->at > now)
        return -1;
    pace->at += pace->step;
    pace->socket = (socket + 1) % pace->sockets;
    return socket;
}

static int pace_wait(int poller, struct epoll_event *ready, int room, uint64_t due, int silence_ms)
{
    uint64_t now = now_ns(), most = (uint64_t)silence_ms * 1000000;
    uint64_t left = due <= now ? 0 : due - now < most ? due - now : most;
    struct timespec limit = {(time_t)(left / 1000000000ull), (long)(left % 1000000000ull)};
    return epoll_pwait2(poller, ready, room, &limit, NULL);
}

static void begin_all(struct pace *pace, const struct paced *what, uint64_t start)
{
    pace->at = start;
    pace->socket = 0;
    for (int i = 0; i < pace->sockets; i++)
        what->begin(i, pace->step ? start + pace->step * (uint64_t)i : 0);
    for (int i = 0; i < pace->sockets && !pace->step; i++)
        what->fill(i, start);
}

/* A message whose connection still waits for an answer is sent when that has come. */
static void send_due(struct pace *pace, const struct paced *what, uint64_t now)
{
    for (int i; (i = pace_next(pace, now)) >= 0;)
        what->fill(i, now);
}

/* Follow an answer by the next message; after the end only by one that was due before. */
static void go_on(const struct pace *pace, const struct paced *what, int socket, uint64_t end)
{
    uint64_t now = now_ns();
    if (now < end)
        what->fill(socket, now);
    else if (pace->step)
        what->fill(socket, end - 1);
    else
        what->flush(socket);
}

static void check_silence(const struct paced *what, uint64_t *heard, int count, int silence_ms)
{
    uint64_t now = now_ns();
    if (count > 0 || !what->in_flight())
        *heard = now;
    if (now - *heard >= (uint64_t)silence_ms * 1000000)
        fail("no %s for %d ms with %llu in flight", what->answer, silence_ms,
             (unsigned long long)what->in_flight());
}

void pace_run(struct pace *pace, const struct paced *what, int poller, double seconds,
              int silence_ms)
{
    struct epoll_event ready[256];
    uint64_t now = now_ns(), heard = now, end = now + (uint64_t)(seconds * 1e9);
    begin_all(pace, what, now);
    while (now < end || what->in_flight()) {
        int is_paced = pace->step && now < end;
        if (is_paced)
            send_due(pace, what, now);
        int count = pace_wait(poller, ready, 256, is_paced ? pace->at : UINT64_MAX, silence_ms);
        check_silence(what, &heard, count, silence_ms);
        for (int i = 0; i < count; i++) {
            int socket = (int)ready[i].data.u32;
            if (ready[i].events & ~(uint32_t)EPOLLOUT)
                what->receive(socket);
            go_on(pace, what, socket, end);
        }
        now = now_ns();
    }
}
