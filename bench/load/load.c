#include "load.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#include "histogram.h"

uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static uint64_t ns_of(struct timeval t)
{
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_usec * 1000ull;
}

uint64_t own_cpu_ns(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return ns_of(usage.ru_utime) + ns_of(usage.ru_stime);
}

void *allocate(size_t size)
{
    void *memory = calloc(1, size);
    if (!memory)
        fail("out of memory");
    return memory;
}

void tell_and_wait(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
    wait_for_line();
}

void wait_for_line(void)
{
    for (int c = getchar(); c != '\n' && c != EOF; c = getchar())
        ;
}

void say_figures(const struct histogram *latencies, uint64_t elapsed_ns, uint64_t cpu_ns)
{
    printf("{\"messages\": %llu, \"seconds\": %.6f, \"p50_us\": %.1f, \"p99_us\": %.1f, "
           "\"max_us\": %.1f, \"generator_cpu_s\": %.6f}\n",
           (unsigned long long)latencies->total, (double)elapsed_ns / 1e9,
           histogram_percentile(latencies, 0.50) / 1e3,
           histogram_percentile(latencies, 0.99) / 1e3, (double)latencies->longest / 1e3,
           (double)cpu_ns / 1e9);
    fflush(stdout);
}

void tell_figures(const struct histogram *latencies, uint64_t elapsed_ns, uint64_t cpu_ns)
{
    say_figures(latencies, elapsed_ns, cpu_ns);
    wait_for_line();
}

void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}
