/* Latencies in nanoseconds, counted in log-linear buckets: 64 to an octave, so a
 * percentile is off by at most 0.8 %. Knows nothing of sockets or of what it times. */
#ifndef HISTOGRAM_H
#define HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BUCKETS (64 * 40)

struct histogram {
    uint64_t total;
    uint64_t longest;
    uint64_t count[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *h, uint64_t ns);

/* The latency in nanoseconds below which `fraction` (0 to 1) of the samples lie. */
double histogram_percentile(const struct histogram *h, double fraction);

#endif
