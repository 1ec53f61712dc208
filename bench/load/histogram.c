#include "histogram.h"

#define PER_OCTAVE 64
#define PER_OCTAVE_BITS 6

static unsigned bucket_of(uint64_t ns)
{
    if (ns < PER_OCTAVE)
        return (unsigned)ns;
    unsigned shift = 63 - (unsigned)__builtin_clzll(ns) - PER_OCTAVE_BITS;
    unsigned bucket = shift * PER_OCTAVE + (unsigned)(ns >> shift);
    return bucket < HISTOGRAM_BUCKETS ? bucket : HISTOGRAM_BUCKETS - 1;
}

static double middle_of(unsigned bucket)
{
    if (bucket < 2 * PER_OCTAVE)
        return bucket;
    unsigned shift = bucket / PER_OCTAVE - 1;
    uint64_t low = (uint64_t)(bucket % PER_OCTAVE + PER_OCTAVE) << shift;
    return (double)low + (double)(1ull << shift) / 2;
}

void histogram_add(struct histogram *h, uint64_t ns)
{
    h->total++;
    h->count[bucket_of(ns)]++;
    if (ns > h->longest)
        h->longest = ns;
}

double histogram_percentile(const struct histogram *h, double fraction)
{
    double wanted = fraction * (double)h->total;
    uint64_t seen = 0;
    for (unsigned b = 0; b < HISTOGRAM_BUCKETS; b++) {
        seen += h->count[b];
        if (seen && (double)seen >= wanted)
            return middle_of(b);
    }
    return 0;
}
