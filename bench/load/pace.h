/* When messages are due that come at fixed times, those of all connections out of step by equal
 * parts of an interval: an open loop. One whose connection still waits is late, and its latency
 * runs from when it was due all the same.
 * Knows nothing of what is sent. */
#ifndef PACE_H
#define PACE_H

#include <stdint.h>

struct epoll_event;

struct pace {
    uint64_t step;  /* nanoseconds between two that are due, of all connections; 0: no fixed times */
    int sockets;
    uint64_t at;    /* when the next is due, and whose */
    int socket;
};

/* `interval`: milliseconds between two messages of one connection; 0: as fast as it answers. */
struct pace pace_make(double interval, int sockets);

/* Begin at `start`; whose first is due when is told by pace_first. */
void pace_start(struct pace *pace, uint64_t start);
uint64_t pace_first(const struct pace *pace, uint64_t start, int socket);

/* Nanoseconds between two messages of one connection. */
uint64_t pace_interval(const struct pace *pace);

/* The number of a connection whose message is due by `now`, one after the other, or -1. */
int pace_next(struct pace *pace, uint64_t now);

/* As epoll_wait, until `due` or for `silence_ms` at most. */
int pace_wait(int poller, struct epoll_event *ready, int room, uint64_t due, int silence_ms);

#endif
