/* When messages are due that come at fixed times, those of all connections out of step by equal
 * parts of an interval: an open loop. One whose connection still waits is late, and its latency
 * runs from when it was due all the same.
 * Knows nothing of what is sent. */
#ifndef PACE_H
#define PACE_H

#include <stdint.h>

struct pace {
    uint64_t step;  /* nanoseconds between two that are due, of all connections; 0: no fixed times */
    int sockets;
    uint64_t at;    /* when the next is due, and whose */
    int socket;
};

/* `interval`: milliseconds between two messages of one connection; 0: as fast as it answers. */
struct pace pace_make(double interval, int sockets);

/* Nanoseconds between two messages of one connection. */
uint64_t pace_interval(const struct pace *pace);

/* What a generator does with its connections, which are known here by their numbers. */
struct paced {
    void (*begin)(int socket, uint64_t due);   /* when its first message is due; 0: at once */
    void (*fill)(int socket, uint64_t now);    /* send what is due by now, as far as it may */
    void (*flush)(int socket);                 /* send what was begun, and nothing new */
    void (*receive)(int socket);               /* all that has come */
    uint64_t (*in_flight)(void);
    const char *answer;                        /* what is missing when nothing comes */
};

/* Keep all connections full, or on time, for `seconds`; then wait for what is in flight. `poller`
 * is edge-triggered and gives their numbers (data.u32); after `silence_ms` without a word of any the
 * server is given up. */
void pace_run(struct pace *pace, const struct paced *what, int poller, double seconds,
              int silence_ms);

#endif
