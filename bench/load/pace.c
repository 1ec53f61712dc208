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

void pace_start(struct pace *pace, uint64_t start)
{
    pace->at = start;
    pace->socket = 0;
}

uint64_t pace_first(const struct pace *pace, uint64_t start, int socket)
{
    return pace->step ? start + pace->step * (uint64_t)socket : 0;
}

uint64_t pace_interval(const struct pace *pace)
{
    return pace->step * (uint64_t)pace->sockets;
}

int pace_next(struct pace *pace, uint64_t now)
{
    int socket = pace->socket;
    if (pace->at > now)
        return -1;
    pace->at += pace->step;
    pace->socket = (socket + 1) % pace->sockets;
    return socket;
}

int pace_wait(int poller, struct epoll_event *ready, int room, uint64_t due, int silence_ms)
{
    uint64_t now = now_ns(), most = (uint64_t)silence_ms * 1000000;
    uint64_t left = due <= now ? 0 : due - now < most ? due - now : most;
    struct timespec limit = {(time_t)(left / 1000000000ull), (long)(left % 1000000000ull)};
    return epoll_pwait2(poller, ready, room, &limit, NULL);
}
